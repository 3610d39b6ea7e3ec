/** Losses on held-out images: the same noises and timesteps for every adapter and rank that is compared. */

import { type DatasetItem, sizeName } from "../data/index.js";
import type { Conditioning } from "../denoiser/conditioning.js";
import type { Denoiser } from "../denoiser/denoiser.js";
import type { ActiveModule } from "../denoiser/factors.js";
import { diffuse, drawLatent, drawNoise } from "../denoiser/noising.js";
import { DyloraError } from "../errors.js";
import type { PredictionType } from "../models/config.js";
import type { NoiseSchedule } from "../models/noise-schedule.js";
import { randomStream } from "../random/stream.js";

export interface HeldOutOptions {
  items: readonly DatasetItem[];
  /** Noise and timestep draws per image. */
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
  readonly samples: readonly HeldOutSample[];
  readonly #options: HeldOutOptions;
  /** Places in {@link samples}, batch by batch, size after size. */
  readonly #batches: readonly (readonly number[])[];

  /**
   * Draw `d` of an image takes its timestep from the `d`-th of `draws` equal bands, so that every image sees the whole range
   * of noise; all numbers come from streams named by seed, image and draw.
   */
  constructor(options: HeldOutOptions) {
    const { items, draws, seed, schedule } = options;
    this.#options = options;
    this.samples = items.flatMap((item) =>
      Array.from({ length: draws }, (_, draw) => {
        const place = randomStream(seed, "held-out timestep", item.key, draw).uniform();
        const timestep = Math.floor(((draw + place) / draws) * schedule.steps);
        return { image: item.key, item, draw, timestep };
      }),
    );
    this.#batches = batchesOfOneSize(this.samples, options.batchSize);
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
    const { batchSize } = this.#options;
    const losses = new Float64Array(this.samples.length);
    let done = 0;
    for (const wanted of this.#batches) {
      options.signal.throwIfAborted();
      // Sessions have one batch size: the last batch is filled up with copies, whose losses are left out.
      const batch = Array.from(
        { length: batchSize },
        (_, index) => this.samples[wanted[index % wanted.length]!]!,
      );
      const found = await denoiser.loss(await this.#batch(batch), modules);
      for (const [index, place] of wanted.entries())
        losses[place] = finite(found[index]!, this.samples[place]!);
      done += wanted.length;
      options.onProgress?.(done);
    }
    return losses;
  }

  async #batch(samples: readonly HeldOutSample[]) {
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

function batchesOfOneSize(samples: readonly HeldOutSample[], batchSize: number): number[][] {
  const bySize = new Map<string, number[]>();
  for (const [place, { item }] of samples.entries()) {
    const size = item.frame === undefined ? "" : sizeName(item.frame);
    const places = bySize.get(size);
    if (places === undefined) bySize.set(size, [place]);
    else places.push(place);
  }
  return [...bySize.values()].flatMap((places) =>
    Array.from({ length: Math.ceil(places.length / batchSize) }, (_, batch) =>
      places.slice(batch * batchSize, (batch + 1) * batchSize),
    ),
  );
}

function finite(loss: number, { image, timestep }: HeldOutSample): number {
  if (Number.isFinite(loss)) return loss;
  throw new DyloraError("E_DIVERGED", `the loss on ${image} at timestep ${timestep} is ${loss}`, {
    note: "The adapter or the base model holds numbers that are not finite or too large to compute with.",
  });
}
