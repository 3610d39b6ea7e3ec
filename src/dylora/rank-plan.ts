/**
 * Which ranks a run trains, how often, and which components of a factor a draw reaches.
 *
 * DyLoRA (Valipour et al. 2022, arXiv:2210.07558) draws a rank `b` for every forward pass, truncates both factors of a
 * module to their first `b` components (rows of `down`, columns of `up`) and scales the branch by `alpha / b` (eq. 7).
 */
import { DyloraError, internalError } from "../errors.js";
import type { RandomStream } from "../random/stream.js";

/**
 * Which of the active components learn from a draw.
 * - `full`: all of them.
 * - `frozen`: only those that the next smaller rank does not have; the smaller ranks' components take part in the
 *   forward pass but stay as they are (the paper's "frozen" variant).
 */
export type UpdateMode = "full" | "frozen";

/** `step`: one draw for all modules of a forward pass; `module`: every module draws for itself. */
export type RankDraw = "step" | "module";

/** How often each rank is drawn. */
export type RankWeighting =
  | { readonly kind: "uniform" }
  /** The k-th smallest rank with a probability proportional to `(1 - p)^(k - 1)`; 0 < p < 1. */
  | { readonly kind: "geometric"; readonly p: number };

/** Components `begin` (included) to `end` (excluded) of a factor. */
export interface ComponentRange {
  readonly begin: number;
  readonly end: number;
}

export interface RankPlanOptions {
  /** The rank of the adapter (`--network_dim`). */
  maxRank: number;
  /** Ranks are multiples of it. Default 1. */
  unit?: number;
  /** The ranks to train. Default: every multiple of `unit` up to `maxRank`. The largest must be `maxRank`. */
  ranks?: readonly number[] | null;
  /** Default uniform. */
  weighting?: RankWeighting;
  /** Default `full`. */
  updateMode?: UpdateMode;
  /** Default `step`. */
  rankDraw?: RankDraw;
}

/** A checked plan; make it with `createRankPlan` or `fixedRankPlan`. */
export interface RankPlan {
  readonly maxRank: number;
  readonly unit: number;
  /** The ranks that are drawn, ascending; the last is `maxRank`. */
  readonly ranks: readonly number[];
  /** The probability of each of `ranks`; they add up to 1. */
  readonly probabilities: readonly number[];
  readonly updateMode: UpdateMode;
  readonly rankDraw: RankDraw;
}

/** The multiples of `unit` up to `maxRank`, ascending. */
export function multiplesOfUnit(maxRank: number, unit: number): number[] {
  checkRank("maximum rank (network_dim)", maxRank);
  checkRank("unit", unit);
  if (maxRank % unit !== 0) {
    const below = maxRank - (maxRank % unit);
    const fitting = [below, below + unit].filter((rank) => rank > 0).join(" or ");
    throw new DyloraError("E_RANK", `the maximum rank ${maxRank} is not a multiple of unit ${unit}`, {
      note: `Ranks go up in steps of unit: use --network_dim ${fitting}, or a unit that divides ${maxRank}.`,
    });
  }
  return Array.from({ length: maxRank / unit }, (_, k) => (k + 1) * unit);
}

/**
 * Checks the options and lays down the plan of a DyLoRA run.
 *
 * @throws {DyloraError} `E_RANK` for ranks that do not fit together, `E_CONFIG` for an impossible weighting
 */
export function createRankPlan(options: RankPlanOptions): RankPlan {
  const { maxRank, unit = 1, weighting = { kind: "uniform" } } = options;
  const allRanks = multiplesOfUnit(maxRank, unit);
  const ranks = options.ranks ? checkedRanks(options.ranks, maxRank, unit) : allRanks;
  return {
    maxRank,
    unit,
    ranks,
    probabilities: rankProbabilities(ranks.length, weighting),
    updateMode: options.updateMode ?? "full",
    rankDraw: options.rankDraw ?? "step",
  };
}

/** The plan of an ordinary LoRA: every draw is the maximum rank. */
export function fixedRankPlan(maxRank: number): RankPlan {
  checkRank("rank (network_dim)", maxRank);
  return {
    maxRank,
    unit: maxRank,
    ranks: [maxRank],
    probabilities: [1],
    updateMode: "full",
    rankDraw: "step",
  };
}

/** Draws one rank of the plan: one uniform number of the stream, whatever the weighting. */
export function drawRank(plan: RankPlan, stream: RandomStream): number {
  const draw = stream.uniform();
  let cumulative = 0;
  for (const [k, probability] of plan.probabilities.entries()) {
    cumulative += probability;
    if (draw < cumulative) return plan.ranks[k]!;
  }
  // The sum of the probabilities may be one rounding step below 1, and the draw in that step.
  return plan.maxRank;
}

/**
 * The rank at which a module of its own maximum (`conv_dim` differs from `network_dim`) takes part in draw `b`.
 *
 * It is `min(b, moduleMaxRank)`, and not `b` in proportion, because that is what a file can say: whoever extracts
 * rank `b` cuts every module that is larger to `b` and keeps the smaller ones whole, so the loss in training at `b` and the
 * loss of the extracted file are the same number. At the plan's maximum every module is whole.
 */
export function moduleRank(plan: RankPlan, moduleMaxRank: number, drawnRank: number): number {
  return drawnRank === plan.maxRank ? moduleMaxRank : Math.min(drawnRank, moduleMaxRank);
}

/**
 * The components of a module that learn from draw `drawnRank`.
 *
 * In the mode `frozen` they are the ones above the module's next smaller trained rank: `[b - unit, b)` where every
 * multiple of the unit is trained, more where an explicit list skips ranks (a component between two listed ranks would
 * otherwise never learn). A module that is whole below `drawnRank` learns in its last block.
 */
export function updatedComponents(plan: RankPlan, moduleMaxRank: number, drawnRank: number): ComponentRange {
  const end = moduleRank(plan, moduleMaxRank, drawnRank);
  if (plan.updateMode === "full") return { begin: 0, end };
  let begin = 0;
  for (const rank of plan.ranks) {
    if (rank < end) begin = rank;
  }
  return { begin, end };
}

/** The factor on the LoRA branch at a rank: `alpha / rank` (arXiv:2210.07558 eq. 7; what every loader of a LoRA file uses). */
export function activeScale(alpha: number, rank: number): number {
  return alpha / rank;
}

/**
 * Checks the maximum rank of the 3x3 convolutions against the plan.
 *
 * @throws {DyloraError} `E_RANK`
 */
export function checkConvRank(plan: RankPlan, convRank: number): void {
  checkRank("conv_dim", convRank);
  // An ordinary LoRA draws no ranks: its convolutions may have any.
  if (plan.ranks.length === 1) return;
  if (convRank > plan.maxRank) {
    throw new DyloraError("E_RANK", `conv_dim ${convRank} is above the maximum rank ${plan.maxRank}`, {
      note: `No draw would reach the components above ${plan.maxRank}: use conv_dim=${plan.maxRank}, or --network_dim ${convRank}.`,
    });
  }
  if (convRank % plan.unit !== 0) {
    throw new DyloraError("E_RANK", `conv_dim ${convRank} is not a multiple of unit ${plan.unit}`, {
      note: "The ranks of the 3x3 convolutions go up in the same steps as all others.",
    });
  }
}

function checkRank(subject: string, rank: number): void {
  if (!Number.isInteger(rank) || rank < 1) {
    throw new DyloraError("E_RANK", `the ${subject} must be a whole number from 1, got ${rank}`);
  }
}

function checkedRanks(ranks: readonly number[], maxRank: number, unit: number): number[] {
  for (const rank of ranks) {
    checkRank("ranks entry", rank);
    if (rank % unit !== 0) {
      throw new DyloraError("E_RANK", `ranks: ${rank} is not a multiple of unit ${unit}`, {
        note: `Use multiples of ${unit}, or a smaller unit.`,
      });
    }
    if (rank > maxRank) {
      throw new DyloraError("E_RANK", `ranks: ${rank} is above the maximum rank ${maxRank}`, {
        note: `Raise --network_dim to ${Math.max(...ranks)}, or leave ${rank} out.`,
      });
    }
  }
  const ascending = [...new Set(ranks)].sort((a, b) => a - b);
  const largest = ascending.at(-1);
  if (largest === undefined) throw new DyloraError("E_RANK", "ranks: the list is empty");
  if (largest !== maxRank) {
    throw new DyloraError("E_RANK", `ranks: the largest, ${largest}, is below the maximum rank ${maxRank}`, {
      note: `The components above ${largest} would never learn: add ${maxRank} to ranks, or use --network_dim ${largest}.`,
    });
  }
  return ascending;
}

function rankProbabilities(count: number, weighting: RankWeighting): number[] {
  if (weighting.kind === "uniform") return new Array<number>(count).fill(1 / count);
  const { p } = weighting;
  if (!(p > 0 && p < 1)) {
    throw new DyloraError("E_CONFIG", `rank_distribution geometric: p must be above 0 and below 1, got ${p}`);
  }
  const weights = Array.from({ length: count }, (_, k) => (1 - p) ** k);
  const sum = weights.reduce((total, weight) => total + weight, 0);
  if (!(sum > 0)) throw internalError("rankProbabilities: the weights add up to nothing");
  return weights.map((weight) => weight / sum);
}
