/**
 * The noise levels that a picture is drawn through.
 *
 * Samplers work on `x / sqrt(abar)` = `x_0 + sigma noise`, with `sigma = sqrt((1 - abar) / abar)`: the "variance exploding"
 * form, in which the probability flow is `dx / dsigma = noise` (Karras et al. 2022, arXiv:2206.00364, table 1 and eq. 4; Song
 * et al. 2020, arXiv:2010.02502, eq. 14). The model itself sees `sqrt(abar) (x_0 + sigma noise)`.
 */

import { DyloraError } from "../errors.js";
import type { NoiseSchedule } from "../models/noise-schedule.js";
import type { NoiseSpacing, SamplerName } from "./sampler-names.js";

export interface NoiseLevels {
  /** `sigma` at the start of every step, falling, and 0 at the end: one more than there are steps. */
  readonly sigmas: Float64Array;
  /** What the model is told at the start of every step; between two of the schedule's where `sigma` is. */
  readonly timesteps: Float64Array;
}

/** Exponent of {@link karrasLevels}; "7 for all our experiments" (Karras et al. 2022, section 3). */
const RHO = 7;

/**
 * Signal that counts as left where a rescaled schedule (`--zero_terminal_snr`) leaves none, so that `sigma` stays finite: 2 ** -24
 * is what a float32 next to 1 cannot tell from 0.
 */
const LEAST_SIGNAL = 2 ** -24;

/** Largest number of steps: as many as the schedule has timesteps. */
export const MOST_STEPS = 1000;

/** @throws {DyloraError} `E_USAGE` */
export function checkSteps(steps: number): void {
  if (Number.isSafeInteger(steps) && steps >= 1 && steps <= MOST_STEPS) return;
  throw new DyloraError("E_USAGE", `draw pictures: steps must be from 1 to ${MOST_STEPS}, got ${steps}`);
}

/**
 * - `ddim`: the timesteps `T, T - T/n, …` rounded, so that the first step starts from the noise that the model was trained on
 *   last ("trailing": Lin et al. 2023, arXiv:2305.08891, table 2).
 * - the others: `n` timesteps evenly from `T - 1` to 0, as k-diffusion and stable-diffusion-webui take them; between two
 *   timesteps `log sigma` is interpolated.
 * - with `karras`, all of them: see {@link karrasLevels}.
 */
export function noiseLevels(
  schedule: NoiseSchedule,
  sampler: SamplerName,
  spacing: NoiseSpacing,
  steps: number,
): NoiseLevels {
  checkSteps(steps);
  const logSigmas = scheduleLogSigmas(schedule);
  if (spacing === "karras") return karrasLevels(logSigmas, steps);
  const last = schedule.steps - 1;
  const timesteps =
    sampler === "ddim"
      ? Float64Array.from({ length: steps }, (_, i) => Math.round(schedule.steps * (1 - i / steps)) - 1)
      : Float64Array.from({ length: steps }, (_, i) => (steps === 1 ? last : last * (1 - i / (steps - 1))));
  return withEnd(
    timesteps.map((t) => Math.exp(interpolate(logSigmas, t))),
    timesteps,
  );
}

/**
 * `sigma_i = (max^(1/rho) + i/(n-1) (min^(1/rho) - max^(1/rho)))^rho`, from the schedule's largest sigma to its smallest, more
 * of them where there is little noise (Karras et al. 2022, eq. 5).
 */
function karrasLevels(logSigmas: Float64Array, steps: number): NoiseLevels {
  const [smallest, largest] = [Math.exp(logSigmas[0]!), Math.exp(logSigmas.at(-1)!)];
  const [end, start] = [smallest ** (1 / RHO), largest ** (1 / RHO)];
  const sigmas = Float64Array.from({ length: steps }, (_, i) =>
    steps === 1 ? largest : (start + (i / (steps - 1)) * (end - start)) ** RHO,
  );
  return withEnd(
    sigmas,
    sigmas.map((sigma) => timestepOf(logSigmas, Math.log(sigma))),
  );
}

function withEnd(sigmas: Float64Array, timesteps: Float64Array): NoiseLevels {
  return { sigmas: Float64Array.of(...sigmas, 0), timesteps };
}

/** Rising with the timestep. */
function scheduleLogSigmas({ alphasCumprod }: NoiseSchedule): Float64Array {
  return alphasCumprod.map((value) => {
    const signal = Math.max(value, LEAST_SIGNAL);
    return 0.5 * Math.log((1 - signal) / signal);
  });
}

function interpolate(table: Float64Array, place: number): number {
  const low = Math.min(Math.floor(place), table.length - 1);
  const high = Math.min(low + 1, table.length - 1);
  const share = place - low;
  return share === 0 ? table[low]! : (1 - share) * table[low]! + share * table[high]!;
}

/** The inverse of {@link interpolate} on a rising table; beyond its ends, the end. */
function timestepOf(table: Float64Array, value: number): number {
  if (value <= table[0]!) return 0;
  const high = table.findIndex((entry) => entry >= value);
  if (high < 0) return table.length - 1;
  const low = high - 1;
  return low + (value - table[low]!) / (table[high]! - table[low]!);
}
