/** The smallest candidate that is good enough, and why. */

import { internalError } from "../errors.js";
import type { PairedDifference } from "./bench-types.js";
import type { PairedComparison } from "./statistics.js";

/** One file at one rank with one multiplier, or whatever else was measured on the same samples. */
export interface Candidate {
  /** Orders the candidates: a rank, or a size in bytes. Those of one size are alternatives. */
  readonly size: number;
  /** As the reason calls it: `rank 8`, `rank 8 at 0.75`. */
  readonly name: string;
  /** Sample by sample. */
  readonly losses: ArrayLike<number>;
}

export interface Choice<C extends Candidate = Candidate> {
  readonly chosen: C;
  /** What has the lowest mean loss. */
  readonly best: C;
  /** One sentence with the numbers that decided. */
  readonly reason: string;
}

/**
 * The smallest candidate that is shown to lose at most `tolerance` of what the best one gains on the base model.
 *
 * With losses `x` of the candidate, `b` of the best (the lowest mean) and `o` of the base model, the candidate is good enough
 * where the whole 95 % interval of the mean of `(x - b) - tolerance · (o - b)` is at most 0: a test of non-inferiority, in
 * pairs. "Not shown to be worse" would be a weaker rule, which few images make any candidate pass. Picking the best from
 * the same data makes it look slightly better than it is, so the rule errs towards the larger candidate. Among candidates of
 * one size that are good enough, the one with the lowest mean is taken.
 *
 * @param base - losses of the base model without an adapter; the reason says where nothing beats it
 * @param tolerance - from 0 to 1; 0: nothing may be lost, which only the best and its equals pass
 */
export function recommend<C extends Candidate>(
  comparison: PairedComparison,
  candidates: readonly C[],
  base: ArrayLike<number>,
  tolerance: number,
): Choice<C> {
  const measured = candidates.map((candidate) => ({ candidate, mean: comparison.mean(candidate.losses) }));
  // Of equal losses, the smaller candidate is the best one.
  measured.sort((a, b) => a.mean - b.mean || a.candidate.size - b.candidate.size);
  const best = measured[0]?.candidate;
  if (best === undefined) throw internalError("recommend: no candidates");

  const allowed = Float64Array.from(best.losses, (loss, i) => loss + tolerance * (base[i]! - loss));
  const isGoodEnough = (candidate: C) =>
    candidate === best || comparison.difference(candidate.losses, allowed).ciHigh <= 0;
  // Stable: within a size, the lowest mean comes first.
  const bySize = measured.map(({ candidate }) => candidate).sort((a, b) => a.size - b.size);
  const chosen = bySize.find(isGoodEnough)!;
  // Of the next smaller size, what comes closest.
  const smaller = bySize.filter(({ size }) => size < chosen.size);
  const rejected = smaller.find(({ size }) => size === smaller.at(-1)!.size);

  const gain = comparison.difference(base, best.losses);
  const cost = (candidate: C) => describeDifference(comparison.difference(candidate.losses, best.losses));
  const facts =
    chosen === best
      ? `${best.name} has the lowest loss, ${amount(Math.abs(gain.mean))} ${gain.mean < 0 ? "above" : "below"} the base model's`
      : `${chosen.name} is the smallest that is shown to lose at most ${percent(tolerance)} of what the best, ${best.name}, ` +
        `gains on the base model: ${cost(chosen)} of ${amount(gain.mean)}`;
  const limit = chosen === best ? ` than ${percent(tolerance)} of that gain` : "";
  const less = rejected === undefined ? "" : `; ${rejected.name} may lose more${limit}: ${cost(rejected)}`;
  const worthless =
    gain.ciLow <= 0 ? "; but nothing is shown to be better than the base model without an adapter" : "";
  const { imageCount } = comparison;
  const sentence = `${facts}${less}${worthless} (${imageCount} ${imageCount === 1 ? "image" : "images"}).`;
  return { chosen, best, reason: sentence.charAt(0).toUpperCase() + sentence.slice(1) };
}

/** `+0.00021 [-0.00010, +0.00052]` */
export function describeDifference({ mean, ciLow, ciHigh }: PairedDifference): string {
  return `${signed(mean)} [${signed(ciLow)}, ${signed(ciHigh)}]`;
}

function signed(value: number): string {
  if (!Number.isFinite(value)) return value > 0 ? "+infinite" : "-infinite";
  return `${value < 0 ? "-" : "+"}${amount(Math.abs(value))}`;
}

function amount(value: number): string {
  return Math.abs(value) < 1e-4 && value !== 0
    ? value.toExponential(1)
    : Number(value.toPrecision(2)).toString();
}

function percent(share: number): string {
  return `${Number((100 * share).toPrecision(3))} %`;
}
