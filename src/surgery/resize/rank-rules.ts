/** Which rank a module is cut off at. */
import type { LoraModule } from "../../adapter/index.js";

/**
 * Ways to choose a rank from the singular values σ₁ ≥ σ₂ ≥ …, under sd-scripts' names. The rank is the smallest k with
 *
 * - `sv_cumulative`: `σ₁ + … + σ_k ≥ p · (σ₁ + … + σ_R)`
 * - `sv_fro`: `sqrt(σ₁² + … + σ_k²) ≥ p · sqrt(σ₁² + … + σ_R²)`, so that the relative error is at most `sqrt(1 - p²)`
 * - `sv_ratio`: `σ_{k+1} < σ₁ / p`: every value of at least `σ₁ / p` is kept
 *
 * and at least 1. sd-scripts' `resize_lora.py` keeps one component more than these definitions ask for.
 */
export const ENERGY_METHODS = ["sv_cumulative", "sv_fro", "sv_ratio"] as const;
export type EnergyMethod = (typeof ENERGY_METHODS)[number];

/** Every module to one rank; 3x3 convolutions to another one, where it is given. */
export interface FixedRank {
  readonly kind: "rank";
  readonly rank: number;
  /** Default: `rank`. */
  readonly convRank?: number;
}

/** Every module by its own singular values. */
export interface RankByEnergy {
  readonly kind: "energy";
  readonly method: EnergyMethod;
  /** `sv_cumulative`, `sv_fro`: above 0, at most 1. `sv_ratio`: at least 1. */
  readonly param: number;
  /** No module gets a higher rank. Default: its own. */
  readonly maxRank?: number;
}

/** All modules together: the best file that is no larger than this. */
export interface RankBySize {
  readonly kind: "size";
  /** Of the whole file, header included. */
  readonly targetBytes: number;
  readonly maxRank?: number;
}

export type RankRule = FixedRank | RankByEnergy | RankBySize;

/** The rank that a rule of this kind gives a module: never above its own. */
export function fixedRank(rule: FixedRank, module: Pick<LoraModule, "kind" | "rank">): number {
  const rank = module.kind === "conv3x3" ? (rule.convRank ?? rule.rank) : rule.rank;
  return Math.min(rank, module.rank);
}

/** @param singularValues - descending */
export function rankByEnergy({ method, param, maxRank }: RankByEnergy, singularValues: Float64Array): number {
  const limit = Math.max(1, Math.min(maxRank ?? Number.POSITIVE_INFINITY, singularValues.length));
  return Math.min(limit, Math.max(1, smallestRank(method, param, singularValues)));
}

function smallestRank(method: EnergyMethod, param: number, values: Float64Array): number {
  switch (method) {
    case "sv_cumulative":
      return prefixFor(values, param);
    case "sv_fro":
      return prefixFor(
        values.map((value) => value ** 2),
        param ** 2,
      );
    case "sv_ratio": {
      const threshold = values[0]! / param;
      // Of a product of zeros nothing needs to be kept.
      return threshold === 0 ? 0 : values.filter((value) => value >= threshold).length;
    }
  }
}

/** How many of the weights make up `share` of their sum. */
function prefixFor(weights: Float64Array, share: number): number {
  const sums = weights.slice();
  for (let k = 1; k < sums.length; k++) sums[k] = sums[k - 1]! + sums[k]!;
  // All sums are made in the same order, so that a share of 1 is reached exactly, and by what adds nothing not missed.
  const wanted = share * sums.at(-1)!;
  return sums.findIndex((sum) => sum >= wanted) + 1;
}
