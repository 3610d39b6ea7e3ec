/**
 * One step of every sampler, in float64, on `x = x_0 + sigma noise` (see noise-levels.ts).
 *
 * A sampler is told the clean latents `x0` that the model makes of `x`: from predicted noise or velocity, with or without
 * guidance, it is the same to it.
 */

import { internalError } from "../errors.js";
import type { SamplerName } from "./sampler-names.js";

export interface SamplerStep {
  /** Latents at `sigma`. */
  readonly x: Float64Array;
  /** What the model takes them for, without noise. */
  readonly x0: Float64Array;
  readonly sigma: number;
  /** Where the step ends; below `sigma`, 0 for the last one. */
  readonly nextSigma: number;
  /** Standard normals, as many as latents; drawn when asked for. */
  readonly noise: () => Float64Array | Float32Array;
}

/** Takes one step after the other; @returns the latents at `nextSigma` */
export type Stepper = (step: SamplerStep) => Float64Array;

/** A sampler at its first step. What it remembers belongs to one picture. */
export function createStepper(name: SamplerName): Stepper {
  switch (name) {
    case "ddim":
    case "euler":
      return eulerStep;
    case "euler_a":
      return eulerAncestralStep;
    case "dpmsolver++":
      return dpmSolverPlusPlus2M();
  }
}

/**
 * Euler's method on the probability flow (Karras et al. 2022, arXiv:2206.00364, algorithm 1 without its correction):
 * `x + (next - sigma) (x - x0) / sigma`.
 *
 * DDIM with eta = 0 is the same step. Its eq. 12 (Song et al. 2020, arXiv:2010.02502),
 * `sqrt(a') x0 + sqrt(1 - a') noise`, divided by `sqrt(a')` is `x0 + sigma' noise`, and `noise = (x - x0) / sigma`. The two
 * names differ in the timesteps that they visit.
 */
function eulerStep({ x, x0, sigma, nextSigma }: SamplerStep): Float64Array {
  const kept = nextSigma / sigma;
  return x.map((value, i) => x0[i]! + kept * (value - x0[i]!));
}

/**
 * Euler down to below the next level, then fresh noise up to it: variance `up^2 = next^2 (sigma^2 - next^2) / sigma^2` is drawn,
 * `next^2 - up^2` is left of the old noise. DDPM's sampling, eq. 16 of arXiv:2010.02502 with eta = 1 in terms of sigma.
 */
function eulerAncestralStep(step: SamplerStep): Float64Array {
  const { sigma, nextSigma } = step;
  const up = (nextSigma * Math.sqrt(sigma ** 2 - nextSigma ** 2)) / sigma;
  const down = nextSigma ** 2 / sigma;
  const result = eulerStep({ ...step, nextSigma: down });
  if (up === 0) return result;
  const noise = step.noise();
  return result.map((value, i) => value + up * noise[i]!);
}

/**
 * DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095, algorithm 2). With `lambda = -log sigma` and `h` its rise in a step,
 * `r = h_before / h`: `D = x0 + (x0 - x0_before) / (2 r)`, and the result is `e^-h x + (1 - e^-h) D`. The first step has no
 * `x0_before`; the last one, to `sigma = 0`, has an infinite `h`, and both of them have `D = x0`.
 */
function dpmSolverPlusPlus2M(): Stepper {
  let before: { x0: Float64Array; rise: number } | null = null;
  return ({ x, x0, sigma, nextSigma }) => {
    const kept = nextSigma / sigma;
    const rise = -Math.log(kept);
    // 1 / (2 r): 0 where `rise` is infinite.
    const beyond = before === null ? 0 : rise === Number.POSITIVE_INFINITY ? 0 : rise / (2 * before.rise);
    const old = before?.x0 ?? x0;
    before = { x0, rise };
    return x.map((value, i) => {
      const clean = x0[i]! + beyond * (x0[i]! - old[i]!);
      return clean + kept * (value - clean);
    });
  };
}

/** What the model is shown of latents at a noise level: of variance 1 again. */
export function modelInput(x: Float64Array, sigma: number): Float32Array {
  const scale = 1 / Math.sqrt(1 + sigma ** 2);
  return Float32Array.from(x, (value) => value * scale);
}

/** The latents that a picture starts from: pure noise of the first level. */
export function startLatents(noise: Float32Array, sigma: number): Float64Array {
  const scale = Math.sqrt(1 + sigma ** 2);
  return Float64Array.from(noise, (value) => value * scale);
}

/**
 * The clean latents that a prediction means.
 *
 * Noise: `x0 = x - sigma noise`. Velocity `v = sqrt(a) noise - sqrt(1 - a) x0` (Salimans & Ho 2022, arXiv:2202.00512), of
 * `z = sqrt(a) x`: `x0 = sqrt(a) z - sqrt(1 - a) v = x / (1 + sigma^2) - sigma / sqrt(1 + sigma^2) v`.
 */
export function cleanLatents(
  predictionType: "epsilon" | "v_prediction",
  x: Float64Array,
  prediction: Float64Array,
  sigma: number,
): Float64Array {
  if (prediction.length !== x.length) {
    throw internalError(`${prediction.length} predicted values for ${x.length} latents`);
  }
  if (predictionType === "epsilon") return x.map((value, i) => value - sigma * prediction[i]!);
  const variance = 1 + sigma ** 2;
  const share = sigma / Math.sqrt(variance);
  return x.map((value, i) => value / variance - share * prediction[i]!);
}

/**
 * Classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598): `negative + scale (positive - negative)`, from what the
 * model predicts for the prompt and for the negative prompt.
 */
export function guidedPrediction(
  positive: Float32Array,
  negative: Float32Array,
  scale: number,
): Float64Array {
  return Float64Array.from(positive, (value, i) => negative[i]! + scale * (value - negative[i]!));
}
