/** Noise levels in four equal bands, each of which gets the same number of draws. */

import type { TimestepBand } from "./bench-types.js";

/** Quarters of 0 to 999, from almost no noise to almost nothing else. */
export const BAND_COUNT = 4;

/** The golden ratio's fractional part: multiples of it are spread over [0, 1) evenly, however many there are. */
const GOLDEN = (Math.sqrt(5) - 1) / 2;

/** The bands of a schedule, ascending; together all of its timesteps. */
export function timestepBands(steps: number): TimestepBand[] {
  return Array.from({ length: BAND_COUNT }, (_, band) => ({
    firstTimestep: Math.ceil((band / BAND_COUNT) * steps),
    lastTimestep: Math.ceil(((band + 1) / BAND_COUNT) * steps) - 1,
  }));
}

/** Draws 0 to 3 of an image lie in the four bands, 4 to 7 again, and so on. */
export function bandOfDraw(draw: number): number {
  return draw % BAND_COUNT;
}

/**
 * The timestep of a draw. It does not depend on how many draws there will be, so more of them can be added at any time.
 *
 * Within its band, an image's first draw is uniform and the later ones are turned on by the golden ratio: each of them is
 * uniform too, and together they lie apart (a randomly shifted Kronecker sequence).
 *
 * @param offset - uniform in [0, 1), drawn for the image and the band
 */
export function timestepOfDraw(draw: number, offset: number, steps: number): number {
  const round = Math.floor(draw / BAND_COUNT);
  const place = (offset + round * GOLDEN) % 1;
  const { firstTimestep, lastTimestep } = timestepBands(steps)[bandOfDraw(draw)]!;
  return firstTimestep + Math.floor(place * (lastTimestep + 1 - firstTimestep));
}
