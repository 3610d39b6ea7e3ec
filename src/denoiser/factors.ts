/** The numbers of an adapter as training and evaluation hold them. */

import { internalError } from "../errors.js";
import type { LoraTarget } from "../models/lora-targets.js";
import { float32, type HostTensor } from "../runtime/session.js";

/**
 * Both factors of one module, float32, rank-major: component `i` is row `i` of each, so that a rank prefix of either is
 * one contiguous piece of memory and nothing is copied to run at a lower rank.
 */
export interface BranchFactors {
  readonly target: LoraTarget;
  /** Rows of both factors. */
  readonly maxRank: number;
  readonly alpha: number;
  /** `lora_down.weight`, `[maxRank, in]`; of a 3x3 convolution `[maxRank, in, 3, 3]`. */
  readonly down: Float32Array;
  /** `lora_up.weight` transposed, `[maxRank, out]`. */
  readonly up: Float32Array;
}

/** What one module contributes to one execution. */
export interface ActiveModule {
  readonly factors: BranchFactors;
  /** Components `0..rank` take part; 0: the module does nothing. */
  readonly rank: number;
  /** Strength of the branch, `alpha / rank` (paper eq. 7) times the multiplier, if any. */
  readonly scale: number;
}

/** Numbers of one component of `down`. */
export function downWidth(target: LoraTarget): number {
  return target.kind === "conv3x3" ? target.inFeatures * 9 : target.inFeatures;
}

/** Numbers of one component of `up`. */
export function upWidth(target: LoraTarget): number {
  return target.outFeatures;
}

/** Axes of `down` behind the rank. */
export function downShape(target: LoraTarget): number[] {
  return target.kind === "conv3x3" ? [target.inFeatures, 3, 3] : [target.inFeatures];
}

export interface FactorGradients {
  /** `[b, in…]`, rank-major like the factors. */
  readonly down: Float32Array;
  /** `[b, out]`. */
  readonly up: Float32Array;
}

/** Names of a module's graph inputs and outputs. */
export function branchNames(target: LoraTarget) {
  return {
    rank: `${target.name}.rank`,
    down: `${target.name}.lora_down`,
    up: `${target.name}.lora_up`,
    scale: `${target.name}.scale`,
    downGradient: `${target.name}.lora_down.gradient`,
    upGradient: `${target.name}.lora_up.gradient`,
    rowsEnd: `${target.name}.rows.end`,
    rowsTrainedBegin: `${target.name}.rows.trained_begin`,
    rowsUntrained: `${target.name}.rows.untrained`,
  };
}

/** All modules at one rank, for the symbolic axes of a graph. */
export function ranksOf(targets: readonly LoraTarget[], rank: number): Record<string, number> {
  return Object.fromEntries(targets.map((target) => [branchNames(target).rank, rank]));
}

/** The graph inputs of the active modules. */
export function branchFeeds(modules: readonly ActiveModule[]): Record<string, HostTensor> {
  const feeds: Record<string, HostTensor> = {};
  for (const { factors, rank, scale } of modules) {
    const { target, maxRank } = factors;
    if (rank > maxRank) throw internalError(`${target.name}: rank ${rank} of ${maxRank}`);
    const names = branchNames(target);
    const { down, up } = leadingRows(target, factors, rank);
    feeds[names.down] = down;
    feeds[names.up] = up;
    feeds[names.scale] = float32(Float32Array.of(rank === 0 ? 0 : scale), []);
  }
  return feeds;
}

/** Where the gradients of the active components go, as the graph's outputs. @param arrays - per module, as large as its factors */
export function branchResults(
  modules: readonly ActiveModule[],
  arrays: readonly FactorGradients[],
): Record<string, HostTensor> {
  const results: Record<string, HostTensor> = {};
  for (const [index, { factors, rank }] of modules.entries()) {
    const names = branchNames(factors.target);
    const { down, up } = leadingRows(factors.target, arrays[index]!, rank);
    results[names.downGradient] = down;
    results[names.upGradient] = up;
  }
  return results;
}

/** The active components, or what belongs to them. */
function leadingRows(
  target: LoraTarget,
  { down, up }: FactorGradients,
  rank: number,
): Record<"down" | "up", HostTensor> {
  // Rank 0 is fed as one component of strength 0: an axis of length 0 is not for every operator of every device.
  const rows = Math.max(rank, 1);
  return {
    down: float32(down.subarray(0, rows * downWidth(target)), [rows, ...downShape(target)]),
    up: float32(up.subarray(0, rows * upWidth(target)), [rows, upWidth(target)]),
  };
}
