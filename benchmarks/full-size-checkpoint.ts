/**
 * Checkpoints of the published sizes with random weights, for benchmarks: what they compute is noise, what it costs is real.
 *
 *   npx tsx benchmarks/full-size-checkpoint.ts [--model sd15|sd21] [--dtype fp16|fp32]
 *
 * prints the path of the file, which is made when it is not there (SD 1.5 in float16: 2.1 GB).
 */

import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type CheckpointConfigs, originalWeightShapes } from "../src/models/checkpoint/index.js";
import { SD_VAE, SD15_TEXT, SD15_UNET, SD21_TEXT, SD21_UNET } from "../src/models/reference-configs.js";
import { randomStream } from "../src/random/stream.js";
import { encodeFromFloat32, type TensorSource, writeSafetensors } from "../src/safetensors/index.js";
import { cacheFolder, choice, isMain } from "./setting.js";

export const MODELS = ["sd15", "sd21"] as const;
export type ModelName = (typeof MODELS)[number];

export const WEIGHT_DTYPES = ["fp16", "fp32"] as const;
export type WeightDtype = (typeof WEIGHT_DTYPES)[number];

const CONFIGS: Readonly<Record<ModelName, CheckpointConfigs>> = {
  sd15: { version: "sd1", unet: SD15_UNET, textEncoder: SD15_TEXT, vae: SD_VAE },
  sd21: { version: "sd2", unet: SD21_UNET, textEncoder: SD21_TEXT, vae: SD_VAE },
};
const FILE_DTYPE = { fp16: "F16", fp32: "F32" } as const;

/** Part of the file's name: raise it when the weights are drawn in another way. */
const RECIPE = 1;

/**
 * Normal numbers are drawn once and used again and again, since a thousand million of them would take minutes. The number is
 * a prime, so that no two rows of a weight are alike.
 */
const POOL_SIZE = 4_194_301;

/** The path of a checkpoint in one file with the original names; it is written first where it does not exist. */
export async function fullSizeCheckpoint(model: ModelName, dtype: WeightDtype): Promise<string> {
  const folder = join(cacheFolder(), "full-size");
  const path = join(folder, `${model}-${dtype}-random-${RECIPE}.safetensors`);
  if (existsSync(path)) return path;
  await mkdir(folder, { recursive: true });
  const pool = new WeightPool(FILE_DTYPE[dtype]);
  const sources = [...originalWeightShapes(CONFIGS[model])].map(
    ([name, shape], index): TensorSource => ({
      name,
      dtype: FILE_DTYPE[dtype],
      shape,
      data: () => weight(pool, name, shape, index),
    }),
  );
  // A run beside this one may have made the same file meanwhile.
  await writeSafetensors(path, sources, { overwrite: true });
  return path;
}

/** Normal numbers as bytes of a file, by their deviation. */
class WeightPool {
  readonly dtype: "F16" | "F32";
  readonly #normals = randomStream(1, "full-size checkpoint").fillNormal(new Float32Array(POOL_SIZE));
  readonly #encoded = new Map<number, Uint8Array>();

  constructor(dtype: "F16" | "F32") {
    this.dtype = dtype;
  }

  bytes(deviation: number): Uint8Array {
    const known = this.#encoded.get(deviation);
    if (known !== undefined) return known;
    const encoded = encodeFromFloat32(
      this.#normals.map((value) => value * deviation),
      this.dtype,
    );
    this.#encoded.set(deviation, encoded);
    return encoded;
  }
}

/**
 * The numbers a network starts training with: matrices and kernels normal with variance 1 / fan_in, so that activations
 * and gradients keep their size from layer to layer; norms at one; biases at zero.
 */
async function* weight(
  pool: WeightPool,
  name: string,
  shape: readonly number[],
  index: number,
): AsyncGenerator<Uint8Array, void, void> {
  const count = shape.reduce((product, size) => product * size, 1);
  if (shape.length === 1) {
    yield encodeFromFloat32(new Float32Array(count).fill(name.endsWith("weight") ? 1 : 0), pool.dtype);
    return;
  }
  const bytes = pool.bytes(1 / Math.sqrt(count / shape[0]!));
  const elementBytes = bytes.length / POOL_SIZE;
  let at = randomStream(1, "weight", index).int(POOL_SIZE) * elementBytes;
  for (let missing = count * elementBytes; missing > 0; at = 0) {
    const part = bytes.subarray(at, at + missing);
    yield part;
    missing -= part.length;
  }
}

if (isMain(import.meta.url)) {
  const { values } = parseArgs({
    options: { model: { type: "string", default: "sd15" }, dtype: { type: "string", default: "fp16" } },
  });
  console.log(
    await fullSizeCheckpoint(
      choice("model", values.model, MODELS),
      choice("dtype", values.dtype, WEIGHT_DTYPES),
    ),
  );
}
