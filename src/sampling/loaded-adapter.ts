/** LoRA files in memory, at any of their ranks; and several of them added up. */

import { basename } from "node:path";
import { type Adapter, type AlphaRule, openAdapter, readFactors } from "../adapter/index.js";
import { type ActiveModule, type BranchFactors, downWidth, upWidth } from "../denoiser/factors.js";
import { checkAdapterFitsBase } from "../models/base-match.js";
import type { Checkpoint } from "../models/checkpoint/types.js";
import { type LoraTarget, loraTargets } from "../models/lora-targets.js";
import { extractedAlpha, selectRanks } from "../surgery/index.js";
import type { AppliedAdapter } from "./types.js";

export interface LoadedAdapter {
  /** File name without extension. */
  readonly name: string;
  /** Null for an adapter that no file holds. */
  readonly path: string | null;
  readonly maxRank: number;
  /** Empty where the file has none. */
  readonly metadata: Readonly<Record<string, string>>;
  /** The modules of the base model that it changes. */
  readonly targets: readonly LoraTarget[];
  /** @throws {DyloraError} `E_RANK` for a rank that the file was not trained for; 0, the base model, always passes */
  checkRank(rank: number): void;
  /** The modules at a rank from 1, with the strength that the extracted file of that rank has in every loader. */
  activate(rank: number): ActiveModule[];
}

/** Every module of a checkpoint that can have an adapter. */
export function adapterTargets(checkpoint: Pick<Checkpoint, "unet" | "textEncoder">): LoraTarget[] {
  const configs = { unet: checkpoint.unet.config, textEncoder: checkpoint.textEncoder.config };
  return loraTargets(configs, { convDim: true });
}

/**
 * Reads a LoRA file's factors, whatever its dialect.
 *
 * @throws {DyloraError} `E_INCOMPATIBLE` where it does not fit the checkpoint, `E_FORMAT`, `E_NOT_FOUND`
 */
export async function loadAdapter(
  path: string,
  checkpoint: Pick<Checkpoint, "unet" | "textEncoder">,
): Promise<LoadedAdapter> {
  await using adapter = await openAdapter(path);
  const { matched } = checkAdapterFitsBase(adapterTargets(checkpoint), adapter.modules);
  const factors: BranchFactors[] = [];
  for (const { module, target } of matched) {
    const { down, upT } = await readFactors(adapter.file, module);
    factors.push({ target, maxRank: module.rank, alpha: module.alpha, down, up: upT });
  }
  const { alphaRule, unit } = adapter.dylora;
  return {
    name: adapterName(adapter),
    path,
    maxRank: adapter.maxRank,
    metadata: adapter.metadata,
    targets: matched.map(({ target }) => target),
    checkRank(rank) {
      if (rank !== 0) selectRanks({ ranks: [rank] }, adapter.dylora, path);
    },
    activate: (rank) => factors.map((module) => atRank(module, rank, alphaRule, unit ?? 1)),
  };
}

/**
 * Factors that are being trained, at the strength of the paper's rule; what is trained on changes what is drawn next.
 *
 * @param rankOf - the module's own rank where the whole network is at `rank`
 */
export function liveAdapter(
  name: string,
  network: readonly BranchFactors[],
  maxRank: number,
  rankOf: (maxRank: number, rank: number) => number,
): LoadedAdapter {
  return {
    name,
    path: null,
    maxRank,
    metadata: {},
    targets: network.map(({ target }) => target),
    checkRank() {},
    activate: (rank) => network.map((factors) => atRank(factors, rankOf(factors.maxRank, rank), "paper", 1)),
  };
}

function adapterName(adapter: Adapter): string {
  return basename(adapter.path).replace(/\.safetensors$/i, "");
}

function atRank(factors: BranchFactors, rank: number, rule: AlphaRule, unit: number): ActiveModule {
  const active = Math.min(rank, factors.maxRank);
  if (active === 0) return { factors, rank: 0, scale: 0 };
  const alpha = extractedAlpha(rule, { alpha: factors.alpha, rank: factors.maxRank, unit }, active);
  return { factors, rank: active, scale: alpha / active };
}

/**
 * What several adapters do together: one active module for every target. Where more than one of them changes a module,
 * their components stand behind each other, each scaled by its own strength: `Σ s_i up_i down_i = [s_i up_i] [down_i]`.
 *
 * @param targets - of a graph; every one gets a module, of rank 0 where no adapter has any
 */
export function combineAdapters(
  targets: readonly LoraTarget[],
  applied: readonly AppliedAdapter[],
): ActiveModule[] {
  const byTarget = new Map<string, ActiveModule[]>();
  for (const { adapter, rank, multiplier = 1 } of applied) {
    if (rank === 0 || multiplier === 0) continue;
    for (const module of adapter.activate(rank)) {
      if (module.rank === 0) continue;
      const { name } = module.factors.target;
      const scaled = { ...module, scale: module.scale * multiplier };
      byTarget.set(name, [...(byTarget.get(name) ?? []), scaled]);
    }
  }
  return targets.map((target) => {
    const [first, ...more] = byTarget.get(target.name) ?? [];
    if (first === undefined) return absentModule(target);
    return more.length === 0 ? first : stacked(target, [first, ...more]);
  });
}

function stacked(target: LoraTarget, modules: readonly ActiveModule[]): ActiveModule {
  const rank = modules.reduce((total, module) => total + module.rank, 0);
  const down = new Float32Array(rank * downWidth(target));
  const up = new Float32Array(rank * upWidth(target));
  let row = 0;
  for (const { factors, rank: rows, scale } of modules) {
    down.set(factors.down.subarray(0, rows * downWidth(target)), row * downWidth(target));
    const begin = row * upWidth(target);
    for (let i = 0; i < rows * upWidth(target); i++) up[begin + i] = factors.up[i]! * scale;
    row += rows;
  }
  return { factors: { target, maxRank: rank, alpha: rank, down, up }, rank, scale: 1 };
}

function absentModule(target: LoraTarget): ActiveModule {
  const down = new Float32Array(downWidth(target));
  const up = new Float32Array(upWidth(target));
  return { factors: { target, maxRank: 1, alpha: 0, down, up }, rank: 0, scale: 0 };
}
