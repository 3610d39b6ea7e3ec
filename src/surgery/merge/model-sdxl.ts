/**
 * The weights of an SDXL model.
 *
 * Names come from the model's structure, widths from the file: the model is not run here, so nothing else has to fit.
 */
import { join } from "node:path";
import type { Component } from "../../adapter/index.js";
import { DyloraError } from "../../errors.js";
import { predictionOfFolder } from "../../models/checkpoint/diffusers-folder.js";
import { clipOriginalNames, type WeightRef, type Weights } from "../../models/checkpoint/index.js";
import { isFolder } from "../../models/checkpoint/paths.js";
import { predictionFromMetadata } from "../../models/checkpoint/prediction-type.js";
import { type FileTensor, readTensorFile, type TensorIndex } from "../../models/checkpoint/tensor-index.js";
import { readFolderTensors } from "../../models/checkpoint/weight-files.js";
import { type LoraTarget, loraTargets } from "../../models/lora-targets.js";
import { SDXL_TEXT, SDXL_TEXT_2, SDXL_UNET } from "../../models/reference-configs.js";
import { sdxlUnetModules } from "../../models/structure/sdxl.js";
import type { ModelPartName, ModelTarget, ModelWeights } from "./model.js";

/** In front of each part's tensors in a single file. */
const PREFIXES: Readonly<Record<ModelPartName, string>> = {
  unet: "model.diffusion_model.",
  text_encoder: "conditioner.embedders.0.transformer.",
  text_encoder_2: "conditioner.embedders.1.model.",
  vae: "first_stage_model.",
};

/** OpenCLIP's names as `clipOriginalNames` gives them, for SD 2.x. */
const SD2_OPEN_CLIP_PREFIX = "cond_stage_model.model.";

/** A module that adapters are for, with its two names. */
interface SdxlModule extends Pick<LoraTarget, "path"> {
  readonly component: Component;
  readonly names: readonly string[];
  /** Where a single file has the weight, below the part's prefix; `rows`: a block of equal row blocks. */
  readonly original: {
    readonly name: string;
    readonly rows: { readonly index: number; readonly count: number } | null;
  };
}

/** @throws {DyloraError} `E_INCOMPATIBLE` for a model with modules missing */
export async function openSdxlWeights(path: string): Promise<ModelWeights> {
  const isDiffusers = await isFolder(path);
  const { parts, prediction } = isDiffusers ? await diffusersParts(path) : await singleFileParts(path);
  const missing: string[] = [];
  const targets = sdxlModules().flatMap((module): ModelTarget[] => {
    const { component, names } = module;
    const rows = isDiffusers ? null : module.original.rows;
    const name = isDiffusers ? `${module.path}.weight` : module.original.name;
    const weightName = rows === null ? name : rowsName(name, rows.index);
    const weight = parts.get(component)?.get(weightName);
    if (weight === undefined) {
      missing.push(`${component} ${weightName}`);
      return [];
    }
    const [outFeatures, inFeatures, kernel] = weight.shape as [number, number, number?];
    const kind = kernel === undefined ? "linear" : kernel === 1 ? "conv1x1" : "conv3x3";
    return [{ names, component, kind, inFeatures, outFeatures, weightName, weight }];
  });
  if (missing.length > 0) {
    throw new DyloraError(
      "E_INCOMPATIBLE",
      `open ${path}: ${missing.length} weights of SDXL are missing or stored in a type other than F32, F16 and BF16: ${missing.slice(0, 3).join(", ")}`,
      { note: "Nothing was changed. Give a complete SDXL model." },
    );
  }
  return {
    path,
    layout: isDiffusers ? "diffusers" : "single-file",
    family: "sdxl",
    version: "sdxl_base_v1-0",
    predictionType: prediction?.predictionType ?? "epsilon",
    predictionTypeSource: prediction?.source ?? "default",
    parts,
    targets,
  };
}

async function singleFileParts(path: string) {
  const { tensors, metadata } = await readTensorFile(path);
  const parts = new Map<ModelPartName, Weights>();
  for (const [part, prefix] of Object.entries(PREFIXES) as [ModelPartName, string][]) {
    const weights = new Map<string, WeightRef>();
    for (const [name, tensor] of tensors) {
      if (!name.startsWith(prefix)) continue;
      for (const [weightName, weight] of weightsOf(name.slice(prefix.length), tensor))
        weights.set(weightName, weight);
    }
    if (weights.size > 0) parts.set(part, weights);
  }
  return { parts, prediction: predictionFromMetadata(metadata) };
}

async function diffusersParts(path: string) {
  const parts = new Map<ModelPartName, Weights>();
  for (const [part, stem] of [
    ["unet", "diffusion_pytorch_model"],
    ["text_encoder", "model"],
    ["text_encoder_2", "model"],
    ["vae", "diffusion_pytorch_model"],
  ] as const) {
    if (part === "vae" && !(await isFolder(join(path, part)))) continue;
    const tensors: TensorIndex = await readFolderTensors(path, part, stem);
    parts.set(part, new Map([...tensors].flatMap(([name, tensor]) => weightsOf(name, tensor))));
  }
  return { parts, prediction: await predictionOfFolder(path) };
}

/** A tensor as weights: OpenCLIP packs q, k and v into one tensor. Types that are no weights' are left out. */
function weightsOf(name: string, { filePath, info }: FileTensor): [string, WeightRef][] {
  const { dtype, offsetBytes, sizeBytes, shape } = info;
  if (dtype !== "F32" && dtype !== "F16" && dtype !== "BF16") return [];
  if (!/\.attn\.in_proj_(weight|bias)$/.test(name)) {
    return [[name, { filePath, dtype, offsetBytes, sizeBytes, shape }]];
  }
  const [rows = 0, ...rest] = shape;
  return [0, 1, 2].map((index) => [
    rowsName(name, index),
    {
      filePath,
      dtype,
      offsetBytes: offsetBytes + (index * sizeBytes) / 3,
      sizeBytes: sizeBytes / 3,
      shape: [rows / 3, ...rest],
    },
  ]);
}

function rowsName(name: string, index: number): string {
  return `${name}[${"qkv"[index]}]`;
}

function sdxlModules(): SdxlModule[] {
  const originalPaths = new Map(sdxlUnetModules().map(({ path, originalPath }) => [path, originalPath]));
  const unet = loraTargets({ unet: SDXL_UNET, textEncoder: SDXL_TEXT }, { convDim: true, unetOnly: true });
  return [
    ...unet.map(({ path, name }): SdxlModule => {
      const originalPath = originalPaths.get(path)!;
      const names = [`lora_unet_${originalPath.replaceAll(".", "_")}`, name];
      return { path, component: "unet", names, original: { name: `${originalPath}.weight`, rows: null } };
    }),
    ...textEncoderModules(SDXL_TEXT).map(({ path, name }): SdxlModule => {
      const names = [name.replace(/^lora_te_/, "lora_te1_"), name];
      return { path, component: "text_encoder", names, original: { name: `${path}.weight`, rows: null } };
    }),
    ...secondTextEncoderModules(),
  ];
}

function secondTextEncoderModules(): SdxlModule[] {
  const originals = clipOriginalNames(SDXL_TEXT_2, "sd2");
  return textEncoderModules(SDXL_TEXT_2).map(({ path, name }) => {
    const { name: original, rows } = originals.get(`${path}.weight`)!;
    return {
      path,
      component: "text_encoder_2",
      names: [name.replace(/^lora_te_/, "lora_te2_")],
      original: { name: original.slice(SD2_OPEN_CLIP_PREFIX.length), rows },
    };
  });
}

function textEncoderModules(textEncoder: typeof SDXL_TEXT): LoraTarget[] {
  return loraTargets({ unet: SDXL_UNET, textEncoder }, { textEncoderOnly: true });
}
