/** The factors that a run trains: fresh ones. */

import { type BranchFactors, downWidth, upWidth } from "../denoiser/factors.js";
import type { LoraTarget } from "../models/lora-targets.js";
import { randomStream } from "../random/stream.js";

export interface NetworkSizes {
  /** Rank and alpha of every Linear and 1x1 convolution (`--network_dim`, `--network_alpha`). */
  readonly rank: number;
  readonly alpha: number;
  /** Rank and alpha of the 3x3 convolutions (`conv_dim`, `conv_alpha`); null: they are no targets. */
  readonly convRank: number | null;
  readonly convAlpha: number | null;
}

export function sizeOf(target: LoraTarget, sizes: NetworkSizes): { rank: number; alpha: number } {
  return target.kind === "conv3x3"
    ? { rank: sizes.convRank ?? sizes.rank, alpha: sizes.convAlpha ?? sizes.alpha }
    : { rank: sizes.rank, alpha: sizes.alpha };
}

/**
 * A fresh adapter, which changes nothing yet: `up` is zero, `down` uniform in ±1/sqrt(fan_in), which is what sd-scripts'
 * `kaiming_uniform_(a=sqrt(5))` draws.
 *
 * Every component of every module has a random stream of its own: it starts with the same numbers whatever the rank of
 * the whole, so a run that grows an adapter starts its new components as a run of that rank would have.
 */
export function freshNetwork(
  targets: readonly LoraTarget[],
  sizes: NetworkSizes,
  seed: number,
): BranchFactors[] {
  return targets.map((target) => {
    const { rank, alpha } = sizeOf(target, sizes);
    return freshModule(target, rank, alpha, seed);
  });
}

export function freshModule(target: LoraTarget, rank: number, alpha: number, seed: number): BranchFactors {
  const width = downWidth(target);
  const bound = 1 / Math.sqrt(width);
  const down = new Float32Array(rank * width);
  for (let component = 0; component < rank; component++) {
    const random = randomStream(seed, "init", target.name, component);
    for (let i = component * width; i < (component + 1) * width; i++)
      down[i] = (2 * random.uniform() - 1) * bound;
  }
  return { target, maxRank: rank, alpha, down, up: new Float32Array(rank * upWidth(target)) };
}

/** Numbers that are trained. */
export function parameterCount(network: readonly BranchFactors[]): number {
  return network.reduce((total, { down, up }) => total + down.length + up.length, 0);
}
