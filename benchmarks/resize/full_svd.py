"""Truncates every product of a LoRA file by a full SVD in PyTorch, and measures its errors and those of another file.

    python3 full_svd.py PARENT.safetensors RESIZED.safetensors RANK [--sample N] [--full-matrices]

Prints one JSON document: seconds and relative errors by module. Time counts what a resize needs: the product, its
decomposition, the truncated factors in float16; reading and measuring are left out.
"""

import argparse
import json
import os
import sys
import time

import numpy
import torch

DTYPES = {"F16": numpy.float16, "F32": numpy.float32, "F64": numpy.float64}


class SafetensorsFile:
    def __init__(self, path):
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        self.header = header
        self.data = numpy.memmap(path, dtype=numpy.uint8, mode="r", offset=8 + length)

    def read(self, name):
        info = self.header[name]
        begin, end = info["data_offsets"]
        values = self.data[begin:end].view(DTYPES[info["dtype"]]).reshape(info["shape"])
        return torch.from_numpy(values.copy())

    def factors(self, module):
        up = self.read(module + ".lora_up.weight").flatten(1)
        down = self.read(module + ".lora_down.weight").flatten(1)
        scale = self.read(module + ".alpha").double().item() / down.shape[0]
        return up, down, scale

    def modules(self):
        suffix = ".lora_down.weight"
        return [name[: -len(suffix)] for name in self.header if name.endswith(suffix)]


def truncate(up, down, rank, full_matrices):
    product = up.float() @ down.float()
    u, s, vh = torch.linalg.svd(product, full_matrices=full_matrices)
    root = s[:rank].sqrt()
    return (u[:, :rank] * root).half(), (root[:, None] * vh[:rank]).half()


def relative_error(exact, up, down, scale):
    return ((exact - scale * (up.double() @ down.double())).norm() / exact.norm()).item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("parent")
    parser.add_argument("resized")
    parser.add_argument("rank", type=int)
    parser.add_argument("--sample", type=int, default=1)
    parser.add_argument("--full-matrices", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count())
    parent, resized = SafetensorsFile(options.parent), SafetensorsFile(options.resized)
    modules = parent.modules()[:: options.sample]
    results = []
    for index, module in enumerate(modules):
        up, down, scale = parent.factors(module)
        began = time.perf_counter()
        theirs = truncate(up, down, options.rank, options.full_matrices)
        seconds = time.perf_counter() - began
        exact = scale * (up.double() @ down.double())
        results.append(
            {
                "name": module,
                "outputs": up.shape[0],
                "inputs": down.shape[1],
                "seconds": seconds,
                "error": relative_error(exact, *theirs, scale),
                "resizedError": relative_error(exact, *resized.factors(module)),
            }
        )
        print(f"\rfull SVD  {index + 1}/{len(modules)} modules", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads(), "modules": results}))


main()
