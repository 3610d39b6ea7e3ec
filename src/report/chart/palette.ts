/** Colours of charts, as the style sheet's variables: it has a set for light and one for dark pages. */

const SERIES = 6;
const RANK_STEPS = 8;
export const HEAT_STEPS = 7;

/** Of things without an order, such as files. */
export function seriesColor(index: number): string {
  return index < SERIES ? `var(--series-${index + 1})` : "var(--muted)";
}

/** Of `count` things with an order, such as ranks: from pale to strong. */
export function orderedColor(index: number, count: number): string {
  const step = count === 1 ? RANK_STEPS - 1 : Math.round((index / (count - 1)) * (RANK_STEPS - 1));
  return `var(--step-${step + 1})`;
}

/** Of amounts; `step` counts from 0. */
export function heatColor(step: number): string {
  return `var(--heat-${step + 1})`;
}

export const INK = "var(--ink)";
export const MUTED = "var(--muted)";
export const ACCENT = "var(--accent)";
export const PAPER = "var(--paper)";
