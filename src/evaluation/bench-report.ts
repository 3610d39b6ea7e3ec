/** From measured losses to what is reported: means, paired differences, the recommendation. */

import type { BenchAdapter } from "./bench-adapter.js";
import type {
  BaseResult,
  FileResult,
  LossSummary,
  MultiplierResult,
  OverallRecommendation,
  RankResult,
  Recommendation,
} from "./bench-types.js";
import { rankName } from "./rank-name.js";
import { type Candidate, recommend } from "./recommend.js";
import { PairedComparison } from "./statistics.js";
import { BAND_COUNT, bandOfDraw } from "./timestep-bands.js";
import { versusUniform } from "./versus-uniform.js";

/** The losses of one file at one rank with one multiplier. */
export interface MeasuredVariant {
  readonly file: number;
  readonly rank: number;
  readonly multiplier: number;
  /** In the order of the samples. */
  readonly losses: Float64Array;
  /** Of the executions that were timed. */
  readonly seconds: readonly number[];
}

export interface MeasuredBench {
  readonly samples: readonly { readonly image: string; readonly draw: number }[];
  readonly base: Pick<MeasuredVariant, "losses" | "seconds">;
  readonly adapters: readonly BenchAdapter[];
  /** See file-names.ts. */
  readonly names: readonly string[];
  /** Every file at every rank with every multiplier. */
  readonly variants: readonly MeasuredVariant[];
  readonly multipliers: readonly number[];
  readonly tolerance: number;
  /** Of the bootstrap. */
  readonly seed: number;
}

export interface BenchResults {
  readonly base: BaseResult;
  readonly files: readonly FileResult[];
  readonly recommendation: OverallRecommendation;
}

/** What is reported of losses; all intervals share their resamples of the images. */
export function benchResults(measured: MeasuredBench): BenchResults {
  const { samples, base, variants, seed } = measured;
  const all = new Part(samples, seed, () => true);
  const bands = Array.from(
    { length: BAND_COUNT },
    (_, band) => new Part(samples, seed, ({ draw }) => bandOfDraw(draw) === band),
  );
  const overall = recommendOverall(measured, all.comparison);
  const best = variants[overall.bestIndex]!;
  const baseLoss = all.comparison.mean(base.losses);
  const gain = baseLoss - all.comparison.mean(best.losses);

  const multiplierResult = (variant: MeasuredVariant): MultiplierResult => {
    const full = fullRankOf(variant, measured);
    const losses = { own: variant.losses, full: full?.losses ?? null, base: base.losses };
    const summary = all.summary(losses);
    return {
      multiplier: variant.multiplier,
      ...summary,
      versusBest: variant === best ? null : all.comparison.difference(variant.losses, best.losses),
      gainKept: gain > 0 ? (baseLoss - summary.meanLoss) / gain : null,
      bands: bands.map((band) => band.summary(losses)),
      lossByImage: [...all.comparison.imageMeans(variant.losses)],
    };
  };
  const rankResult = (file: number, rank: number): RankResult => {
    const adapter = measured.adapters[file]!;
    const atRank = variants.filter((variant) => variant.file === file && variant.rank === rank);
    const fileSizeBytes = adapter.fileSizeBytes(rank);
    return {
      rank,
      fileSizeBytes,
      relativeSize: fileSizeBytes / adapter.fileSizeBytes(adapter.maxRank),
      // The multiplier makes no difference to the time.
      secondsPerStep: median(atRank.flatMap(({ seconds }) => seconds)),
      multipliers: atRank.map(multiplierResult),
    };
  };
  const files = measured.adapters.map(
    ({ path, isDylora, dialect, maxRank, isMixed, ranks }, file): FileResult => ({
      path,
      name: measured.names[file]!,
      isDylora,
      dialect,
      maxRank,
      isMixed,
      ranks: ranks.map((rank) => rankResult(file, rank)),
      recommendation: recommendInFile(file, measured, all.comparison),
      versusUniform: versusUniform(file, measured, all.comparison),
    }),
  );
  return {
    base: {
      meanLoss: baseLoss,
      bands: bands.map((band) => band.mean(base.losses)),
      lossByImage: [...all.comparison.imageMeans(base.losses)],
      secondsPerStep: median(base.seconds),
    },
    files,
    recommendation: overall.recommendation,
  };
}

/**
 * Half the width of the widest interval that matters for the choice of a rank, as a share of the base model's loss: of every
 * difference to the full rank, and for a file with one rank of the difference to the base model. Infinite with one image.
 */
export function widestHalfWidth(measured: MeasuredBench): number {
  const { samples, base, variants, adapters, seed } = measured;
  const { comparison } = new Part(samples, seed, () => true);
  const widths = variants.flatMap((variant) => {
    const hasOneRank = adapters[variant.file]!.ranks.length === 1;
    const reference = hasOneRank ? base : fullRankOf(variant, measured);
    if (reference === null) return [];
    const { ciLow, ciHigh } = comparison.difference(variant.losses, reference.losses);
    return [(ciHigh - ciLow) / 2];
  });
  return Math.max(...widths) / comparison.mean(base.losses);
}

/** All samples, or those of one band of timesteps. */
class Part {
  readonly comparison: PairedComparison;
  readonly #indices: readonly number[];

  constructor(
    samples: MeasuredBench["samples"],
    seed: number,
    belongs: (sample: MeasuredBench["samples"][number]) => boolean,
  ) {
    this.#indices = [...samples.keys()].filter((index) => belongs(samples[index]!));
    this.comparison = new PairedComparison(
      this.#indices.map((index) => samples[index]!.image),
      { seed },
    );
  }

  summary(losses: { own: Float64Array; full: Float64Array | null; base: Float64Array }): LossSummary {
    const own = this.#pick(losses.own);
    return {
      meanLoss: this.comparison.mean(own),
      versusFullRank: losses.full === null ? null : this.comparison.difference(own, this.#pick(losses.full)),
      versusBase: this.comparison.difference(own, this.#pick(losses.base)),
    };
  }

  mean(losses: Float64Array): number {
    return this.comparison.mean(this.#pick(losses));
  }

  #pick(losses: Float64Array): Float64Array {
    return Float64Array.from(this.#indices, (index) => losses[index]!);
  }
}

/** The same file and multiplier at full rank; null for the full rank itself. */
function fullRankOf(variant: MeasuredVariant, { variants, adapters }: MeasuredBench): MeasuredVariant | null {
  const { maxRank } = adapters[variant.file]!;
  if (variant.rank === maxRank) return null;
  return variants.find(
    ({ file, rank, multiplier }) =>
      file === variant.file && rank === maxRank && multiplier === variant.multiplier,
  )!;
}

interface VariantCandidate extends Candidate {
  readonly variant: MeasuredVariant;
}

function recommendInFile(
  file: number,
  measured: MeasuredBench,
  comparison: PairedComparison,
): Recommendation {
  const candidates = measured.variants
    .filter((variant) => variant.file === file)
    .map((variant) => ({
      variant,
      size: variant.rank,
      name: variantName(variant, measured),
      losses: variant.losses,
    }));
  return recommendation(recommend(comparison, candidates, measured.base.losses, measured.tolerance));
}

/** By the size of the files; of one file, by rank, which is the same order. */
function recommendOverall(
  measured: MeasuredBench,
  comparison: PairedComparison,
): { recommendation: OverallRecommendation; bestIndex: number } {
  const { variants, adapters, names } = measured;
  const candidates = variants.map((variant) => ({
    variant,
    size: adapters[variant.file]!.fileSizeBytes(variant.rank),
    name: `${variantName(variant, measured)}${adapters.length > 1 ? ` of ${names[variant.file]}` : ""}`,
    losses: variant.losses,
  }));
  const choice = recommend(comparison, candidates, measured.base.losses, measured.tolerance);
  return {
    recommendation: {
      file: choice.chosen.variant.file,
      bestFile: choice.best.variant.file,
      ...recommendation(choice),
    },
    bestIndex: variants.indexOf(choice.best.variant),
  };
}

function recommendation(choice: {
  chosen: VariantCandidate;
  best: VariantCandidate;
  reason: string;
}): Recommendation {
  const { chosen, best, reason } = choice;
  return {
    rank: chosen.variant.rank,
    multiplier: chosen.variant.multiplier,
    bestRank: best.variant.rank,
    bestMultiplier: best.variant.multiplier,
    reason,
  };
}

/** `rank 8`; `rank 8 at 0.75` where there is a choice; `the mix up to rank 16`. */
function variantName(
  { file, rank, multiplier }: MeasuredVariant,
  { multipliers, adapters }: MeasuredBench,
): string {
  const isPlain = multipliers.length === 1 && multiplier === 1;
  const name = rankName(adapters[file]!, rank);
  return isPlain ? name : `${name} at ${multiplier}`;
}

/** Null of nothing. */
function median(values: readonly number[]): number | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
