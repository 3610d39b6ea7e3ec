/**
 * Which images a batch shows. There is no hidden state: a batch is a function of the seed and its number, so a
 * resumed run needs only the number of the next batch.
 */
import { DyloraError } from "../errors.js";
import { randomStream } from "../random/stream.js";
import { type CaptionOptions, drawCaption } from "./caption.js";
import { type DatasetItem, epochLength } from "./dataset.js";

export interface SamplerOptions {
  items: readonly DatasetItem[];
  /** Samples per batch (`--train_batch_size`). */
  batchSize: number;
  seed: number;
  caption?: CaptionOptions;
  /** `--flip_aug`: each sample is mirrored with probability 1/2. */
  flipAug?: boolean;
}

/** One image in one batch. */
export interface Sample {
  readonly item: DatasetItem;
  /** Number of the sample in the whole run, from 0: the key of everything random about it. */
  readonly position: number;
  /** Number of the epoch, from 0, that this sample belongs to. */
  readonly epoch: number;
  readonly caption: string;
  readonly flip: boolean;
}

/**
 * Deterministic batches.
 *
 * An epoch is every item, `repeats` times, in an order shuffled anew for each epoch. The epochs follow each other
 * without a gap, and batches are cut from that endless sequence, so every batch is full: where the epoch length is no
 * multiple of the batch size, one batch holds the end of an epoch and the beginning of the next. (sd-scripts ends
 * each epoch with a smaller batch instead, whose images then weigh more in the gradient; and a compiled graph has one
 * batch size.)
 *
 * Batches are counted from 0 over the run. With gradient accumulation over A batches, optimizer step s (from 0) uses
 * the batches `s * A` to `s * A + A - 1`.
 */
export class Sampler {
  readonly batchSize: number;
  /** Samples in one epoch, repeats included. */
  readonly epochLength: number;
  readonly #options: SamplerOptions;
  /** Index into the items for each place of an epoch before shuffling. */
  readonly #places: Int32Array;
  /** Orders of the last epochs asked for; only saves work. A batch and the prefetch touch two epochs at most. */
  readonly #orders = new Map<number, readonly number[]>();

  /** @throws {DyloraError} `E_DATA` without items */
  constructor(options: SamplerOptions) {
    if (options.items.length === 0) {
      throw new DyloraError("E_DATA", "data: there are no images to train on", {
        note: "Check the data folder and the validation split.",
      });
    }
    if (!(Number.isInteger(options.batchSize) && options.batchSize >= 1)) {
      throw new DyloraError(
        "E_CONFIG",
        `data: --train_batch_size must be a whole number of at least 1, got ${options.batchSize}`,
      );
    }
    this.#options = options;
    this.batchSize = options.batchSize;
    this.epochLength = epochLength(options.items);
    this.#places = new Int32Array(this.epochLength);
    let place = 0;
    options.items.forEach(({ repeats }, index) => {
      this.#places.fill(index, place, place + repeats);
      place += repeats;
    });
  }

  /** The samples of a batch, always `batchSize` of them. */
  batchAt(batchIndex: number): Sample[] {
    const first = batchIndex * this.batchSize;
    return Array.from({ length: this.batchSize }, (_, offset) => this.sampleAt(first + offset));
  }

  /** The sample at a position of the endless sequence. */
  sampleAt(position: number): Sample {
    const { items, seed, caption = {}, flipAug = false } = this.#options;
    const epoch = Math.floor(position / this.epochLength);
    const place = this.#orderOf(epoch)[position % this.epochLength]!;
    const item = items[this.#places[place]!]!;
    return {
      item,
      position,
      epoch,
      caption: drawCaption(item.caption, caption, randomStream(seed, "caption", position)),
      flip: flipAug && randomStream(seed, "flip", position).uniform() < 0.5,
    };
  }

  /** The caption of an item that is the same each time (see `isCaptionFixed`). */
  fixedCaption(item: DatasetItem): string {
    return drawCaption(item.caption, this.#options.caption ?? {}, randomStream(0));
  }

  /** Whole epochs behind the run when this many batches are done: `floor(samples seen / epochLength)`. */
  epochsCompleted(batchesDone: number): number {
    return Math.floor((batchesDone * this.batchSize) / this.epochLength);
  }

  /** Batches after which this many epochs are complete; the last one may already show samples of the next epoch. */
  batchesForEpochs(epochs: number): number {
    return Math.ceil((epochs * this.epochLength) / this.batchSize);
  }

  #orderOf(epoch: number): readonly number[] {
    let order = this.#orders.get(epoch);
    if (order === undefined) {
      const places = Array.from({ length: this.epochLength }, (_, place) => place);
      order = randomStream(this.#options.seed, "epoch order", epoch).shuffle(places);
      for (const known of this.#orders.keys())
        if (known < epoch - 1 || known > epoch + 1) this.#orders.delete(known);
      this.#orders.set(epoch, order);
    }
    return order;
  }
}
