/** From clean latents to what the denoiser sees and what it should answer. */

import type { PredictionType } from "../models/config.js";
import { addNoise, type NoiseSchedule, velocityTarget } from "../models/noise-schedule.js";
import type { RandomStream } from "../random/stream.js";
import type { LatentMoments } from "./latent-encoder.js";

/** Bounds of the log-variance, as in every implementation of the autoencoder. */
const MIN_LOGVAR = -30;
const MAX_LOGVAR = 20;

/**
 * A latent drawn from the VAE's distribution, times `scalingFactor`.
 *
 * @returns `[C, h, w]`
 */
export function drawLatent(
  moments: LatentMoments,
  scalingFactor: number,
  random: RandomStream,
): Float32Array {
  const { mean, logvar } = moments;
  const latent = random.fillNormal(new Float32Array(mean.length));
  for (let i = 0; i < latent.length; i++) {
    const deviation = Math.exp(0.5 * Math.min(Math.max(logvar[i]!, MIN_LOGVAR), MAX_LOGVAR));
    latent[i] = (mean[i]! + deviation * latent[i]!) * scalingFactor;
  }
  return latent;
}

/**
 * Standard normal noise; with an offset, every channel is shifted by a normal of that deviation
 * (`--noise_offset`, https://www.crosslabs.org/blog/diffusion-with-offset-noise).
 *
 * @param shape - channels and pixels per channel
 * @returns `[C, h, w]`
 */
export function drawNoise(
  shape: { channels: number; pixels: number },
  offset: number,
  random: RandomStream,
): Float32Array {
  const { channels, pixels } = shape;
  const noise = random.fillNormal(new Float32Array(channels * pixels));
  if (offset === 0) return noise;
  for (let channel = 0; channel < channels; channel++) {
    const shift = offset * random.normal();
    for (let i = channel * pixels; i < (channel + 1) * pixels; i++) noise[i]! += shift;
  }
  return noise;
}

/**
 * Noisy latents and the answer wanted for them.
 *
 * @param latents - one `[C, h, w]` per sample
 * @param noises - likewise
 * @returns `sample` and `target`, `[N, C, h, w]`
 */
export function diffuse(
  schedule: NoiseSchedule,
  predictionType: PredictionType,
  latents: readonly Float32Array[],
  noises: readonly Float32Array[],
  timesteps: readonly number[],
): { sample: Float32Array; target: Float32Array } {
  const latent = joined(latents);
  const noise = joined(noises);
  return {
    sample: addNoise(schedule, latent, noise, timesteps),
    target: predictionType === "epsilon" ? noise : velocityTarget(schedule, latent, noise, timesteps),
  };
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const result = new Float32Array(parts.reduce((total, { length }) => total + length, 0));
  let offset = 0;
  for (const part of parts) {
    result.set(part, offset);
    offset += part.length;
  }
  return result;
}
