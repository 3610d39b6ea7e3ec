"""Reads LoRA files with PyTorch and a reader of its own, and says how far their products are from what they must be.

stdin: JSON, a list of checks:
  {"file": PATH, "dialect": "kohya" | "diffusers" | "peft" | "model",
   "terms": [{"file": PATH, "ratio": x, "prefix": b or null, "base": bool}],   kohya files, or a model's folder with "base"
   "rank": r or null}                                                          the best approximation of that rank
stdout: JSON, a list of {"modules": {name: relative error}, "missing": [...], "extra": [...], "dtypes": [...]}
"""

import json
import os
import struct
import sys

import torch

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "U8": torch.uint8,
}


def read(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    metadata = header.pop("__metadata__", {})
    tensors, end = {}, 0
    for name, info in header.items():
        begin, stop = info["data_offsets"]
        assert begin == end, f"{path}: a gap before {name}"
        end = stop
        tensor = torch.frombuffer(bytearray(data[begin:stop]), dtype=DTYPES[info["dtype"]])
        tensors[name] = tensor.reshape(info["shape"])
    assert end == len(data), f"{path}: {len(data) - end} bytes behind the last tensor"
    return tensors, metadata


def product(down, up):
    """What sd-scripts adds to a weight: a matrix product, or a convolution of the kernels."""
    down, up = down.double(), up.double()
    if down.dim() == 2:
        return up.reshape(up.shape[0], -1) @ down
    return torch.nn.functional.conv2d(down.permute(1, 0, 2, 3), up.reshape(*up.shape[:2], 1, 1)).permute(1, 0, 2, 3)


def kohya(path, prefix=None):
    tensors, _ = read(path)
    modules = {}
    for key in tensors:
        if not key.endswith(".lora_down.weight"):
            assert key.endswith((".lora_up.weight", ".alpha")), key
            continue
        name = key[: -len(".lora_down.weight")]
        down, up = tensors[key], tensors[name + ".lora_up.weight"]
        rank = down.shape[0]
        alpha = float(tensors[name + ".alpha"]) if name + ".alpha" in tensors else rank
        count = min(prefix or rank, rank)
        modules[name] = alpha / count * product(down[:count], up[:, :count])
    return modules


PREFIXES = {"unet": "lora_unet", "text_encoder": "lora_te"}


def kohya_name(component, path):
    return f"{PREFIXES[component]}_{path}".replace(".", "_")


def diffusers(path):
    tensors, metadata = read(path)
    config = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    modules = {}
    for key in tensors:
        if not key.endswith(".lora_A.weight"):
            assert key.endswith(".lora_B.weight"), key
            continue
        component, module = key[: -len(".lora_A.weight")].split(".", 1)
        down, up = tensors[key], tensors[f"{component}.{module}.lora_B.weight"]
        rank = down.shape[0]
        alpha = config.get(f"{component}.lora_alpha", rank)
        alpha = config.get(f"{component}.alpha_pattern", {}).get(module, alpha)
        if component + ".r" in config:
            assert rank == config.get(f"{component}.rank_pattern", {}).get(module, config[component + ".r"]), key
        modules[kohya_name(component, module)] = alpha / rank * product(down, up)
    return modules


def peft(folder):
    modules = {}
    for component in PREFIXES:
        part = os.path.join(folder, component)
        if not os.path.isdir(part):
            continue
        tensors, _ = read(os.path.join(part, "adapter_model.safetensors"))
        with open(os.path.join(part, "adapter_config.json")) as file:
            config = json.load(file)
        for key in tensors:
            if not key.endswith(".lora_A.weight"):
                continue
            assert key.startswith("base_model.model."), key
            module = key[len("base_model.model.") : -len(".lora_A.weight")]
            down, up = tensors[key], tensors[f"base_model.model.{module}.lora_B.weight"]
            rank = down.shape[0]
            assert rank == config["rank_pattern"].get(module, config["r"]), key
            alpha = config["alpha_pattern"].get(module, config["lora_alpha"])
            scale = alpha / rank**0.5 if config.get("use_rslora") else alpha / rank
            modules[kohya_name(component, module)] = scale * product(down, up)
    return modules


def model(folder):
    """Every weight of a diffusers folder under the name that kohya's dialect has for its module."""
    weights = {}
    for component, file in (("unet", "diffusion_pytorch_model"), ("text_encoder", "model")):
        tensors, _ = read(os.path.join(folder, component, file + ".safetensors"))
        for key, tensor in tensors.items():
            weights[kohya_name(component, key[: -len(".weight")] if key.endswith(".weight") else key)] = tensor.double()
    return weights


READERS = {"kohya": kohya, "diffusers": diffusers, "peft": peft, "model": model}


def matrix(tensor):
    return tensor.reshape(tensor.shape[0], -1)


def truncated(tensor, rank):
    u, s, v = torch.linalg.svd(matrix(tensor), full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ v[:rank]


def check(case):
    found = READERS[case["dialect"]](case["file"])
    expected = {}
    for term in case["terms"]:
        modules = model(term["file"]) if term.get("base") else kohya(term["file"], term.get("prefix"))
        for name, value in modules.items():
            # A 1x1 convolution in two dimensions is the one in four.
            value = term["ratio"] * matrix(value)
            expected[name] = expected[name] + value if name in expected else value
    errors = {}
    for name in found.keys() & expected.keys():
        want = expected[name] if case.get("rank") is None else truncated(expected[name], case["rank"])
        errors[name] = float((matrix(found[name]) - want).norm() / want.norm())
    return {
        "modules": errors,
        "missing": sorted(expected.keys() - found.keys()),
        "extra": sorted(found.keys() - expected.keys()),
    }


print(json.dumps([check(case) for case in json.load(sys.stdin)]))
