/**
 * The forward diffusion process that Stable Diffusion was trained with (DDPM, Ho et al. 2020, arXiv:2006.11239).
 *
 * `x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise`, `abar_t` the cumulative product of `1 - beta`. The table is float64;
 * sd-scripts computes it in float32, so values agree to about 1e-6.
 */
import { internalError } from "../errors.js";
import type { PredictionType } from "./config.js";

export interface NoiseScheduleOptions {
  /** Length of the process. Default 1000. */
  steps?: number;
  /** Variance added by the first step. Default 0.00085. */
  betaStart?: number;
  /** Variance added by the last step. Default 0.012. */
  betaEnd?: number;
  /** Rescale so that the last step is pure noise (sd-scripts' `--zero_terminal_snr`). Default false. */
  zeroTerminalSnr?: boolean;
}

export interface NoiseSchedule {
  /** Length of the process; timesteps are 0 to `steps - 1`. */
  readonly steps: number;
  /** Variance added by each step. */
  readonly betas: Float64Array;
  /** Share of the signal's variance left at each timestep (`abar_t`), falling from nearly 1 to nearly 0. */
  readonly alphasCumprod: Float64Array;
}

/** The "scaled linear" schedule: the square roots of beta are equally spaced. */
export function createNoiseSchedule(options: NoiseScheduleOptions = {}): NoiseSchedule {
  const { steps = 1000, betaStart = 0.00085, betaEnd = 0.012, zeroTerminalSnr = false } = options;
  const first = Math.sqrt(betaStart);
  const increment = steps > 1 ? (Math.sqrt(betaEnd) - first) / (steps - 1) : 0;
  const betas = Float64Array.from({ length: steps }, (_, t) => (first + increment * t) ** 2);
  const alphasCumprod = new Float64Array(steps);
  let product = 1;
  for (let t = 0; t < steps; t++) {
    product *= 1 - betas[t]!;
    alphasCumprod[t] = product;
  }
  const schedule = { steps, betas, alphasCumprod };
  return zeroTerminalSnr ? rescaleZeroTerminalSnr(schedule) : schedule;
}

/**
 * Shifts and scales `sqrt(abar)` linearly so that its first value stays and its last becomes 0
 * (Lin et al. 2023, arXiv:2305.08891, algorithm 1).
 */
export function rescaleZeroTerminalSnr(schedule: NoiseSchedule): NoiseSchedule {
  const roots = schedule.alphasCumprod.map(Math.sqrt);
  const first = roots[0]!;
  const last = roots.at(-1)!;
  const alphasCumprod = roots.map((root) => ((root - last) * (first / (first - last))) ** 2);
  const betas = alphasCumprod.map((value, t) => 1 - value / (t === 0 ? 1 : alphasCumprod[t - 1]!));
  return { steps: schedule.steps, betas, alphasCumprod };
}

/** Signal-to-noise ratio `abar_t / (1 - abar_t)` of the noisy latents at timestep `t`. */
export function snr(schedule: NoiseSchedule, t: number): number {
  const signal = alphaCumprod(schedule, t);
  return signal / (1 - signal);
}

/**
 * Noisy latents `sqrt(abar_t) x + sqrt(1 - abar_t) noise`.
 *
 * @param latents - `N` samples one after the other, all of one size
 * @param noise - standard normal, as long as `latents`
 * @param timesteps - `N` integers from 0 to `steps - 1`
 * @returns a new array, computed in float64 and rounded once
 */
export function addNoise(
  schedule: NoiseSchedule,
  latents: Float32Array,
  noise: Float32Array,
  timesteps: readonly number[],
): Float32Array {
  return combine(schedule, latents, noise, timesteps, (signal, x, e) => {
    return Math.sqrt(signal) * x + Math.sqrt(1 - signal) * e;
  });
}

/**
 * Target of v prediction, `sqrt(abar_t) noise - sqrt(1 - abar_t) x` (Salimans & Ho 2022, arXiv:2202.00512).
 * Parameters as in {@link addNoise}.
 */
export function velocityTarget(
  schedule: NoiseSchedule,
  latents: Float32Array,
  noise: Float32Array,
  timesteps: readonly number[],
): Float32Array {
  return combine(schedule, latents, noise, timesteps, (signal, x, e) => {
    return Math.sqrt(signal) * e - Math.sqrt(1 - signal) * x;
  });
}

/**
 * Loss weight of min-SNR-gamma (Hang et al. 2023, arXiv:2303.09556): `min(snr, gamma) / snr` when the model predicts the
 * noise, `min(snr, gamma) / (snr + 1)` when it predicts the velocity.
 *
 * @param gamma - where the weight starts to fall; 5 is the paper's choice
 */
export function minSnrWeight(
  schedule: NoiseSchedule,
  t: number,
  gamma: number,
  predictionType: PredictionType,
): number {
  const ratio = snr(schedule, t);
  if (predictionType === "v_prediction") return Math.min(ratio, gamma) / (ratio + 1);
  // Written so that pure noise (ratio 0) gives the limit 1, not 0 / 0.
  return ratio <= gamma ? 1 : gamma / ratio;
}

function alphaCumprod(schedule: NoiseSchedule, t: number): number {
  const value = schedule.alphasCumprod[t];
  if (value === undefined) {
    throw internalError(
      `noise schedule: timestep must be an integer from 0 to ${schedule.steps - 1}, got ${t}`,
    );
  }
  return value;
}

function combine(
  schedule: NoiseSchedule,
  latents: Float32Array,
  noise: Float32Array,
  timesteps: readonly number[],
  rule: (signal: number, x: number, e: number) => number,
): Float32Array {
  const sampleSize = latents.length / timesteps.length;
  if (noise.length !== latents.length || !Number.isInteger(sampleSize)) {
    throw internalError(
      `noise schedule: ${latents.length} latents and ${noise.length} noise values do not make ${timesteps.length} samples`,
    );
  }
  const result = new Float32Array(latents.length);
  timesteps.forEach((t, sample) => {
    const signal = alphaCumprod(schedule, t);
    const end = (sample + 1) * sampleSize;
    for (let i = sample * sampleSize; i < end; i++) result[i] = rule(signal, latents[i]!, noise[i]!);
  });
  return result;
}
