/** Axes that several charts have in common. */

import type { PlotOptions, ScaleOptions } from "@observablehq/plot";
import type { ChartSize } from "./render.js";

/** Ranks that lie as far apart as 1 and 128 are shown by their ratio, others by their difference. */
const LOG_FROM_RATIO = 12;

/** An axis of ranks, with a tick at each of those that were measured. */
export function rankAxis(ranks: readonly number[]): ScaleOptions {
  const distinct = [...new Set(ranks)].sort((a, b) => a - b);
  const [first, last] = [distinct[0]!, distinct.at(-1)!];
  const common = { ticks: distinct, tickFormat: String, label: "rank", tickSize: 4 };
  // One rank alone has no range of its own.
  if (first === last) return { ...common, type: "linear", domain: [first - 1, first + 1] };
  return last / first >= LOG_FROM_RATIO
    ? { ...common, type: "log", base: 2, domain: [first, last] }
    : { ...common, type: "linear", domain: [first, last] };
}

export interface Margins {
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
  readonly left: number;
}

/** Size and margins, with room for numbers on the left and a label above. */
export function frame({ width }: ChartSize, height: number, margins: Partial<Margins> = {}): PlotOptions {
  const { top = 30, right = 16, bottom = 40, left = 58 } = margins;
  return {
    width,
    height,
    marginTop: top,
    marginRight: right,
    marginBottom: bottom,
    marginLeft: left,
    // Radii are pixels, not values.
    r: { type: "identity" },
  };
}

/**
 * The range of values with a little air around them.
 *
 * @param below - air below, as a share of the range: more where labels stand there
 */
export function padded(values: readonly number[], below = 0.08): [number, number] {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const range = high > low ? high - low : Math.abs(low) * 0.1 || 1;
  return [low - below * range, high + 0.08 * range];
}
