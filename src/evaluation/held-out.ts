/** Losses on held-out images: the same noises and timesteps for every adapter and rank that is compared. */

import { type DatasetItem, sizeName } from "../data/index.js";
import type { Conditioning } from "../denoiser/conditioning.js";
import type { Denoiser, LossBatch } from "../denoiser/denoiser.js";
import type { ActiveModule } from "../denoiser/factors.js";
import { diffuse, drawLatent, drawNoise } from "../denoiser/noising.js";
import { DyloraError, internalError } from "../errors.js";
import type { PredictionType } from "../models/config.js";
import type { NoiseSchedule } from "../models/noise-schedule.js";
import { randomStream } from "../random/stream.js";
import { BAND_COUNT, bandOfDraw, timestepOfDraw } from "./timestep-bands.js";

export interface HeldOutOptions {
  items: readonly DatasetItem[];
  /** Noise and timestep draws per image: a multiple of 4, so that every band of timesteps has the same number. */
  draws: number;
  seed: number;
  batchSize: number;
  conditioning: Conditioning;
  schedule: NoiseSchedule;
  predictionType: PredictionType;
  scalingFactor: number;
}

/** One measurement. */
export interface HeldOutSample {
  /** Key of the image. */
  readonly image: string;
  readonly item: DatasetItem;
  readonly draw: number;
  readonly timestep: number;
}

export class HeldOut {
  /** Image by image, each with its draws in order. */
  readonly samples: readonly HeldOutSample[];
  readonly #options: HeldOutOptions;
  /** Inputs of the last execution: the next adapter is mostly measured on the same samples. */
  #latest: { readonly samples: readonly HeldOutSample[]; readonly batch: LossBatch } | null = null;

  /** All numbers come from streams named by seed, image and draw; see {@link timestepOfDraw} for the timesteps. */
  constructor(options: HeldOutOptions) {
    const { items, draws, seed, schedule } = options;
    if (draws % BAND_COUNT !== 0) throw internalError(`${draws} draws for ${BAND_COUNT} bands of timesteps`);
    this.#options = options;
    this.samples = items.flatMap((item) =>
      Array.from({ length: draws }, (_, draw) => {
        const offset = randomStream(seed, "held-out timestep", item.key, bandOfDraw(draw)).uniform();
        const timestep = timestepOfDraw(draw, offset, schedule.steps);
        return { image: item.key, item, draw, timestep };
      }),
    );
  }

  /**
   * The loss of every sample, in the order of {@link samples}.
   *
   * @throws {DyloraError} `E_DIVERGED` when one is not finite
   */
  async losses(
    denoiser: Denoiser,
    modules: readonly ActiveModule[],
    options: { signal: AbortSignal; onProgress?: (done: number) => void },
  ): Promise<Float64Array> {
    const places = new Map(this.samples.map((sample, place) => [sample, place]));
    const losses = new Float64Array(this.samples.length);
    let done = 0;
    for (const batch of batchesOfOneSize(this.samples, this.#options.batchSize)) {
      options.signal.throwIfAborted();
      const found = await this.lossesOf(batch, denoiser, modules);
      for (const [index, sample] of batch.entries()) losses[places.get(sample)!] = found[index]!;
      done += batch.length;
      options.onProgress?.(done);
    }
    return losses;
  }

  /**
   * The losses of one execution.
   *
   * @param samples - at most one batch of them, of images of one size
   * @throws {DyloraError} `E_DIVERGED` when one is not finite
   */
  async lossesOf(
    samples: readonly HeldOutSample[],
    denoiser: Denoiser,
    modules: readonly ActiveModule[],
  ): Promise<number[]> {
    const losses = await denoiser.loss(await this.batchOf(samples), modules);
    return samples.map((sample, index) => finite(losses[index]!, sample));
  }

  /** What the denoiser is fed for samples. Sessions have one batch size: a smaller number is filled up with copies. */
  async batchOf(samples: readonly HeldOutSample[]): Promise<LossBatch> {
    const latest = this.#latest;
    const isLatest =
      latest?.samples.length === samples.length &&
      latest.samples.every((sample, index) => sample === samples[index]);
    if (isLatest) return latest.batch;
    const { batchSize } = this.#options;
    const filled = Array.from({ length: batchSize }, (_, index) => samples[index % samples.length]!);
    const batch = await this.#draw(filled);
    this.#latest = { samples, batch };
    return batch;
  }

  async #draw(samples: readonly HeldOutSample[]): Promise<LossBatch> {
    const { conditioning, schedule, predictionType, scalingFactor, seed } = this.#options;
    const moments = await Promise.all(samples.map(({ item }) => conditioning.moments(item, false)));
    const { height, width } = moments[0]!;
    const latents = moments.map((latent, index) => {
      const { image, draw } = samples[index]!;
      return drawLatent(latent, scalingFactor, randomStream(seed, "held-out latent", image, draw));
    });
    const noises = moments.map(({ mean }, index) => {
      const { image, draw } = samples[index]!;
      const pixels = height * width;
      const random = randomStream(seed, "held-out noise", image, draw);
      return drawNoise({ channels: mean.length / pixels, pixels }, 0, random);
    });
    const timesteps = samples.map(({ timestep }) => timestep);
    return {
      count: samples.length,
      height,
      width,
      timesteps,
      ...diffuse(schedule, predictionType, latents, noises, timesteps),
      text: await conditioning.text(samples.map(({ item }) => item.caption)),
    };
  }
}

/** Batches of samples whose images have the same size, size after size. */
export function batchesOfOneSize<Sample extends Pick<HeldOutSample, "item">>(
  samples: readonly Sample[],
  batchSize: number,
): Sample[][] {
  const bySize = new Map<string, Sample[]>();
  for (const sample of samples) {
    const { frame } = sample.item;
    const size = frame === undefined ? "" : sizeName(frame);
    const others = bySize.get(size);
    if (others === undefined) bySize.set(size, [sample]);
    else others.push(sample);
  }
  return [...bySize.values()].flatMap((ofSize) =>
    Array.from({ length: Math.ceil(ofSize.length / batchSize) }, (_, batch) =>
      ofSize.slice(batch * batchSize, (batch + 1) * batchSize),
    ),
  );
}

function finite(loss: number, { image, timestep }: HeldOutSample): number {
  if (Number.isFinite(loss)) return loss;
  throw new DyloraError("E_DIVERGED", `the loss on ${image} at timestep ${timestep} is ${loss}`, {
    note: "The adapter or the base model holds numbers that are not finite or too large to compute with.",
  });
}
