/** Checkpoints with random weights: small models that can be run, in either layout. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { LoraModule } from "../../src/adapter/index.js";
import { type CheckpointConfigs, originalWeightShapes } from "../../src/models/checkpoint/index.js";
import { loraTargets } from "../../src/models/lora-targets.js";
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
