/** Losses by the rank that was drawn. */

import { ExponentialAverage, LOSS_TIME_CONSTANT_STEPS } from "../../training/metrics-averages.js";
import type { LoggedStep } from "./run-log.js";

/** Lines that can be told apart. */
export const MOST_LINES = 8;

/** Averages of fewer draws say more about their noise than about the rank. */
const UNSETTLED_DRAWS = 5;

export interface RankLine {
  /** `8`, or `5–8` where ranks are put together. */
  readonly name: string;
  readonly draws: number;
  /** Smoothed over the draws of these ranks. */
  readonly points: readonly { readonly step: number; readonly loss: number }[];
}

/** One smoothed line for each rank that was drawn, or for neighbouring ranks together where there are many. */
export function rankLines(steps: readonly LoggedStep[]): RankLine[] {
  const ranks = [...new Set(steps.flatMap(({ draws }) => draws.map(({ rank }) => rank)))].sort(
    (a, b) => a - b,
  );
  const groupSize = Math.ceil(ranks.length / MOST_LINES);
  const groups = Array.from({ length: Math.ceil(ranks.length / groupSize) || 0 }, (_, index) =>
    ranks.slice(index * groupSize, (index + 1) * groupSize),
  );
  return groups.map((group): RankLine => {
    const drawn = steps.flatMap(({ step, draws }) =>
      draws.filter(({ rank }) => group.includes(rank)).map(({ loss }) => ({ step, loss })),
    );
    // A short run has few draws of each rank: its lines must not lag behind for half of it.
    const average = new ExponentialAverage(Math.min(LOSS_TIME_CONSTANT_STEPS, Math.max(4, drawn.length / 6)));
    return {
      name: group.length === 1 ? String(group[0]) : `${group[0]}–${group.at(-1)}`,
      draws: drawn.length,
      points: drawn
        .map(({ step, loss }) => ({ step, loss: average.add(loss) }))
        .slice(drawn.length > 2 * UNSETTLED_DRAWS ? UNSETTLED_DRAWS : 0),
    };
  });
}
