/** Quantiles of Student's t distribution for the few degrees of freedom that two, three or four images leave. */

import { internalError } from "../errors.js";

/** Distribution functions in closed form, by degrees of freedom. */
const CUMULATIVE: Readonly<Record<number, (t: number) => number>> = {
  1: (t) => 0.5 + Math.atan(t) / Math.PI,
  2: (t) => 0.5 + t / (2 * Math.sqrt(2 + t * t)),
  3: (t) => 0.5 + (t / Math.sqrt(3) / (1 + (t * t) / 3) + Math.atan(t / Math.sqrt(3))) / Math.PI,
};

/**
 * What |t| stays below with probability `confidence`: 12.7, 4.30 and 3.18 for 95 % and 1, 2 and 3 degrees of freedom.
 *
 * @param degrees - 1, 2 or 3
 */
export function criticalT(degrees: number, confidence: number): number {
  const cumulative = CUMULATIVE[degrees];
  if (cumulative === undefined) throw internalError(`Student's t with ${degrees} degrees of freedom`);
  const probability = (1 + confidence) / 2;
  let low = 0;
  let high = 1;
  while (cumulative(high) < probability) high *= 2;
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (cumulative(middle) < probability) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}
