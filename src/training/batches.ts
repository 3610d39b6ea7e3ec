/** Training batches: which images, how noisy, and what answer is wanted. */

import { createLoader, type LoadedBatch, type Sample, type Sampler } from "../data/index.js";
import type { Conditioning } from "../denoiser/conditioning.js";
import type { DenoiserBatch, TrainBatch } from "../denoiser/denoiser.js";
import type { LatentMoments } from "../denoiser/latent-encoder.js";
import { diffuse, drawLatent, drawNoise } from "../denoiser/noising.js";
import type { PredictionType } from "../models/config.js";
import { minSnrWeight, type NoiseSchedule } from "../models/noise-schedule.js";
import { randomStream } from "../random/stream.js";

export interface BatchOptions {
  sampler: Sampler;
  conditioning: Conditioning;
  schedule: NoiseSchedule;
  predictionType: PredictionType;
  scalingFactor: number;
  seed: number;
  /** `--noise_offset`; 0: none. */
  noiseOffset: number;
  /** `--min_snr_gamma`; null: every sample counts the same. */
  minSnrGamma: number | null;
  /** Timesteps `minTimestep` to `maxTimestep - 1` are drawn. */
  minTimestep: number;
  maxTimestep: number;
}

/** Loads the images of the micro-steps `first` to `end - 1` ahead of their use. */
export function loadBatches(
  { sampler, conditioning }: BatchOptions,
  range: { first: number; end: number },
  options: { workers: number | null; signal: AbortSignal },
): AsyncIterableIterator<LoadedBatch<Sample, LatentMoments>> {
  return createLoader({
    batchAt: (index) => sampler.batchAt(index),
    load: ({ item, flip }) => conditioning.moments(item, flip),
    firstBatch: range.first,
    endBatch: range.end,
    signal: options.signal,
    ...(options.workers === null ? {} : { workers: options.workers }),
  });
}

/**
 * What the denoiser is fed for loaded images. All numbers are drawn from streams that are named by the sample's position in
 * the run, so they do not depend on what was computed before.
 */
export async function trainBatch(
  options: BatchOptions,
  { samples, data }: LoadedBatch<Sample, LatentMoments>,
): Promise<TrainBatch> {
  const { conditioning, schedule, predictionType, seed } = options;
  const { height, width } = data[0]!;
  const draws = samples.map(({ position }, index) => {
    const moments = data[index]!;
    const pixels = moments.height * moments.width;
    const channels = moments.mean.length / pixels;
    const span = options.maxTimestep - options.minTimestep;
    return {
      latent: drawLatent(moments, options.scalingFactor, randomStream(seed, "latent", position)),
      noise: drawNoise({ channels, pixels }, options.noiseOffset, randomStream(seed, "noise", position)),
      timestep: options.minTimestep + randomStream(seed, "timestep", position).int(span),
    };
  });
  const timesteps = draws.map(({ timestep }) => timestep);
  const { sample, target } = diffuse(
    schedule,
    predictionType,
    draws.map(({ latent }) => latent),
    draws.map(({ noise }) => noise),
    timesteps,
  );
  const text: DenoiserBatch["text"] = await conditioning.text(samples.map(({ caption }) => caption));
  const weight = (timestep: number) =>
    options.minSnrGamma === null ? 1 : minSnrWeight(schedule, timestep, options.minSnrGamma, predictionType);
  return {
    count: samples.length,
    height,
    width,
    sample,
    target,
    timesteps,
    text,
    lossWeight: Float32Array.from(timesteps, (timestep) => weight(timestep) / samples.length),
  };
}
