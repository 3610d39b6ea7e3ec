/** Checkpoints with random weights: small models that can be run, in either layout. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { LoraModule } from "../../src/adapter/index.js";
import {
  type CheckpointConfigs,
  clipOriginalNames,
  originalWeightShapes,
} from "../../src/models/checkpoint/index.js";
import { type LoraTarget, loraTargets } from "../../src/models/lora-targets.js";
import { SDXL_TEXT, SDXL_TEXT_2, SDXL_UNET } from "../../src/models/reference-configs.js";
import { unetModules } from "../../src/models/structure/unet.js";
import { clipWeightShapes, unetWeightShapes, type WeightShapes } from "../../src/models/weight-shapes.js";
import { encodeFromFloat32, type WritableDtype, writeSafetensors } from "../../src/safetensors/index.js";
import { type RandomModule, randomValues } from "./random-adapter.js";
import { diffusersClipConfig, diffusersUnetConfig, writeJson } from "./sparse-safetensors.js";

/** Scales of norms are near 1, everything else near 0, small enough for activations to keep their size. */
function randomWeight(name: string, shape: readonly number[], seed: number): Float32Array {
  const values = randomValues(
    shape.reduce((product, size) => product * size, 1),
    seed,
  );
  if (shape.length === 1) {
    const offset = name.endsWith(".weight") ? 1 : 0;
    return values.map((value) => value + offset);
  }
  const fanIn = shape.slice(1).reduce((product, size) => product * size, 1);
  // randomValues has a standard deviation of 0.058.
  return values.map((value) => value * (10 / Math.sqrt(fanIn)));
}

async function writeWeights(
  path: string,
  shapes: WeightShapes,
  dtype: WritableDtype,
  metadata: Record<string, string> | null,
): Promise<string> {
  const sources = [...shapes].map(([name, shape], index) => ({
    name,
    dtype,
    shape,
    data: () => encodeFromFloat32(randomWeight(name, shape, index), dtype),
  }));
  await writeSafetensors(path, sources, { metadata, overwrite: true });
  return path;
}

export function writeRandomSingleFile(
  path: string,
  configs: CheckpointConfigs,
  dtype: WritableDtype = "F32",
  metadata: Record<string, string> | null = null,
): Promise<string> {
  return writeWeights(path, originalWeightShapes(configs), dtype, metadata);
}

/** U-Net and text encoder as diffusers and transformers save them; no VAE. */
export async function writeRandomDiffusers(
  folder: string,
  { unet, textEncoder }: CheckpointConfigs,
  dtype: WritableDtype = "F32",
): Promise<string> {
  await writeJson(join(folder, "unet"), "config.json", diffusersUnetConfig(unet));
  await writeJson(join(folder, "text_encoder"), "config.json", diffusersClipConfig(textEncoder));
  await writeJson(folder, "model_index.json", { _class_name: "StableDiffusionPipeline" });
  await mkdir(join(folder, "scheduler"), { recursive: true });
  const metadata = { format: "pt" };
  await writeWeights(
    join(folder, "unet", "diffusion_pytorch_model.safetensors"),
    unetWeightShapes(unet),
    dtype,
    metadata,
  );
  await writeWeights(
    join(folder, "text_encoder", "model.safetensors"),
    clipWeightShapes(textEncoder),
    dtype,
    metadata,
  );
  return folder;
}

/** A LoRA module for every target of a model, convolutions included. */
export function modulesForModel(
  { unet, textEncoder }: Pick<CheckpointConfigs, "unet" | "textEncoder">,
  rank: number,
): RandomModule[] {
  return loraTargets({ unet, textEncoder }, { convDim: true }).map(
    ({ name, kind, inFeatures, outFeatures }): RandomModule & { kind: LoraModule["kind"] } => ({
      name,
      kind,
      rank,
      inFeatures,
      outFeatures,
    }),
  );
}

/** SDXL's structure with small widths. It is never run. */
const SDXL_TINY = {
  unet: {
    ...SDXL_UNET,
    blockOutChannels: [8, 12, 16],
    crossAttentionDim: 20,
    timeEmbedDim: 24,
    normNumGroups: 4,
  },
  texts: [
    { ...SDXL_TEXT, hiddenSize: 8, intermediateSize: 16, vocabSize: 30 },
    { ...SDXL_TEXT_2, hiddenSize: 12, intermediateSize: 24, vocabSize: 30 },
  ],
} as const;

/** An SDXL model in one file, with Stability AI's names. */
export function writeRandomSdxl(path: string, dtype: WritableDtype = "F32"): Promise<string> {
  const { unet, texts } = SDXL_TINY;
  const shapes = new Map<string, readonly number[]>([
    ["first_stage_model.decoder.conv_in.weight", [8, 4, 3, 3]],
  ]);
  for (const { path: module, originalPath, weightShape, hasBias } of unetModules(unet)) {
    const name = `model.diffusion_model.${originalPath}`;
    shapes.set(`${name}.weight`, weightShape);
    if (hasBias) shapes.set(`${name}.bias`, [weightShape[0]!]);
    if (module === "conv_in") shapes.set("model.diffusion_model.label_emb.0.0.weight", [24, 28]);
  }
  for (const [name, shape] of clipWeightShapes(texts[0])) {
    shapes.set(`conditioner.embedders.0.transformer.${name}`, shape);
  }
  const second = clipWeightShapes(texts[1]);
  for (const [name, original] of clipOriginalNames(texts[1], "sd2")) {
    const [rows, ...rest] = second.get(name)!;
    const originalName = original.name.replace("cond_stage_model.model.", "conditioner.embedders.1.model.");
    shapes.set(originalName, [rows! * (original.rows?.count ?? 1), ...rest]);
  }
  return writeWeights(path, shapes, dtype, null);
}

/** The same as a diffusers folder, with other weights. */
export async function writeRandomSdxlDiffusers(
  folder: string,
  dtype: WritableDtype = "F32",
): Promise<string> {
  const { unet, texts } = SDXL_TINY;
  await writeJson(folder, "model_index.json", { _class_name: "StableDiffusionXLPipeline" });
  const parts = [
    ["unet", "diffusion_pytorch_model", unetWeightShapes(unet)],
    ["text_encoder", "model", clipWeightShapes(texts[0])],
    ["text_encoder_2", "model", clipWeightShapes(texts[1])],
  ] as const;
  for (const [part, stem, shapes] of parts) {
    await writeJson(join(folder, part), "config.json", {});
    await writeWeights(join(folder, part, `${stem}.safetensors`), shapes, dtype, { format: "pt" });
  }
  return folder;
}

/** A LoRA module for every target of the small SDXL, under kohya's usual names for it or under the rarer flat ones. */
export function modulesForSdxl(rank: number, naming: "usual" | "flat" = "usual"): RandomModule[] {
  const { unet, texts } = SDXL_TINY;
  const originals = new Map(unetModules(unet).map(({ path, originalPath }) => [path, originalPath]));
  const module = (target: LoraTarget, name: string): RandomModule => {
    const { kind, inFeatures, outFeatures } = target;
    return { name, kind, rank, inFeatures, outFeatures };
  };
  const ofText = (index: 0 | 1) =>
    loraTargets({ unet, textEncoder: texts[index] }, { textEncoderOnly: true }).map((target) =>
      module(target, target.name.replace(/^lora_te_/, `lora_te${index + 1}_`)),
    );
  const ofUnet = loraTargets({ unet, textEncoder: texts[0] }, { unetOnly: true, convDim: true }).map(
    (target) => {
      const usual = `lora_unet_${originals.get(target.path)!.replaceAll(".", "_")}`;
      return module(target, naming === "usual" ? usual : target.name);
    },
  );
  return [...ofUnet, ...ofText(0), ...ofText(1)];
}
