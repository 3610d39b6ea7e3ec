/** Reads a folder of golden data by the files that lie in it (layout: README of the golden data). */

import { existsSync } from "node:fs";
import { join } from "node:path";
import type { BranchFactors } from "../../src/denoiser/factors.js";
import { DyloraError } from "../../src/errors.js";
import { type Checkpoint, openCheckpoint } from "../../src/models/checkpoint/index.js";
import { type LoraTarget, loraTargets } from "../../src/models/lora-targets.js";
import { SafetensorsFile } from "../../src/safetensors/index.js";

/** A tensor of `cases.safetensors`. */
export interface CaseTensor {
  shape: readonly number[];
  values: Float32Array;
}

export interface GoldenSource {
  name: "single-file" | "diffusers";
  checkpoint: Checkpoint;
}

export interface GoldenFolder {
  dir: string;
  sources: GoldenSource[];
  /** Parts that the folder lacks. */
  missing: string[];
  cases: ReadonlyMap<string, CaseTensor>;
  factors: BranchFactors[];
  /** Ranks that the cases were computed at, ascending. */
  ranks: number[];
}

export async function openGoldenFolder(dir: string): Promise<GoldenFolder> {
  const missing: string[] = [];
  const sources: GoldenSource[] = [];
  const singleFile = join(dir, "single-file.safetensors");
  if (existsSync(singleFile))
    sources.push({ name: "single-file", checkpoint: await openCheckpoint(singleFile) });
  else missing.push("single-file.safetensors");
  if (existsSync(join(dir, "unet")))
    sources.push({ name: "diffusers", checkpoint: await openCheckpoint(dir) });
  else missing.push("unet");
  const first = sources[0];
  if (first === undefined) {
    throw new DyloraError("E_NOT_FOUND", `parity: ${dir} holds no checkpoint`, {
      note: "Expected single-file.safetensors, or the folders unet and text_encoder.",
    });
  }
  const cases = await readAll(join(dir, "cases.safetensors"));
  const lora = join(dir, "lora.safetensors");
  const factors = existsSync(lora) ? await readFactors(lora, first.checkpoint) : [];
  if (factors.length === 0) missing.push("lora.safetensors");
  const ranks = [...cases.keys()].flatMap((name) => /^rank(\d+)\.loss$/.exec(name)?.[1] ?? []).map(Number);
  return { dir, sources, missing, cases, factors, ranks: ranks.sort((a, b) => a - b) };
}

async function readAll(path: string): Promise<Map<string, CaseTensor>> {
  await using file = await SafetensorsFile.open(path);
  const tensors = new Map<string, CaseTensor>();
  for (const { name, shape, dtype } of file.header.tensors.values()) {
    const bytes = await file.read(name);
    const values =
      dtype === "I64"
        ? Float32Array.from(new BigInt64Array(bytes.slice().buffer), Number)
        : await file.readFloat32(name);
    tensors.set(name, { shape, values });
  }
  return tensors;
}

/** The adapter's factors, rank-major; modules that the file lacks are no targets. */
async function readFactors(path: string, checkpoint: Checkpoint): Promise<BranchFactors[]> {
  await using file = await SafetensorsFile.open(path);
  const configs = { unet: checkpoint.unet.config, textEncoder: checkpoint.textEncoder.config };
  const factors: BranchFactors[] = [];
  for (const target of loraTargets(configs, { convDim: true })) {
    if (!file.header.tensors.has(`${target.name}.lora_down.weight`)) continue;
    factors.push(await readModule(file, target));
  }
  return factors;
}

async function readModule(file: SafetensorsFile, target: LoraTarget): Promise<BranchFactors> {
  const down = `${target.name}.lora_down.weight`;
  const maxRank = file.info(down).shape[0]!;
  const up = await file.readFloat32(`${target.name}.lora_up.weight`);
  const [alpha] = await file.readFloat32(`${target.name}.alpha`);
  return { target, maxRank, alpha: alpha!, down: await file.readFloat32(down), up: rankMajor(up, maxRank) };
}

/** `[out, rank]` to `[rank, out]`. */
export function rankMajor(up: Float32Array, rank: number): Float32Array {
  const out = up.length / rank;
  const result = new Float32Array(up.length);
  for (let row = 0; row < out; row++) {
    for (let component = 0; component < rank; component++) {
      result[component * out + row] = up[row * rank + component]!;
    }
  }
  return result;
}
