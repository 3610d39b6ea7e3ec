/**
 * Which images a batch shows. There is no hidden state: a batch is a function of the seed and its number, so a
 * resumed run needs only the number of the next batch.
 */
import { DyloraError } from "../errors.js";
import { randomStream } from "../random/stream.js";
import { compareSizes, sizeName } from "./buckets.js";
import { type CaptionOptions, drawCaption } from "./caption.js";
import { type DatasetItem, epochLength } from "./dataset.js";
import { EpochPlan } from "./epoch-plan.js";

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
  /** How often, from 0, its bucket was shown before: an epoch of the bucket, in which every image comes `repeats` times. */
  readonly epoch: number;
  readonly caption: string;
  readonly flip: boolean;
}

/**
 * Deterministic batches, each of images of one size.
 *
 * An epoch is every item, `repeats` times, in an order shuffled anew for each epoch. Within a bucket the epochs follow
 * each other without a gap, and batches are cut from that endless sequence, so every batch is full: where the number of a
 * bucket's samples is no multiple of the batch size, one batch holds the end of an epoch and the beginning of the next.
 * (sd-scripts ends every bucket of each epoch with a smaller batch instead, whose images then weigh more in the gradient;
 * and a compiled graph has one batch size.) The batches of an epoch come in random order, whatever their buckets: the shape
 * of an image says something about what it shows, and steps of one shape after another would unlearn the other shapes.
 *
 * Batches are counted from 0 over the run. With gradient accumulation over A batches, optimizer step s (from 0) uses
 * the batches `s * A` to `s * A + A - 1`.
 */
export class Sampler {
  readonly plan: EpochPlan;
  readonly #options: SamplerOptions;
  readonly #buckets: readonly SampledBucket[];
  /** Orders of the last epochs asked for; only saves work. A batch and the prefetch touch two epochs at most. */
  readonly #batchOrders = new Map<number, readonly BatchPlace[]>();

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
    this.#buckets = bucketItems(options.items).map(
      ({ name, items }) => new SampledBucket(name, items, options.seed),
    );
    this.plan = new EpochPlan(
      this.#buckets.map(({ epochLength }) => epochLength),
      options.batchSize,
    );
  }

  get batchSize(): number {
    return this.plan.batchSize;
  }

  /** The samples of a batch, always `batchSize` of them. */
  batchAt(batchIndex: number): Sample[] {
    const { seed, caption = {}, flipAug = false } = this.#options;
    const { bucket, ordinal } = this.#placeOf(batchIndex);
    return Array.from({ length: this.batchSize }, (_, offset) => {
      const { item, epoch } = this.#buckets[bucket]!.at(ordinal * this.batchSize + offset);
      const position = batchIndex * this.batchSize + offset;
      return {
        item,
        position,
        epoch,
        caption: drawCaption(item.caption, caption, randomStream(seed, "caption", position)),
        flip: flipAug && randomStream(seed, "flip", position).uniform() < 0.5,
      };
    });
  }

  /** The caption of an item that is the same each time (see `isCaptionFixed`). */
  fixedCaption(item: DatasetItem): string {
    return drawCaption(item.caption, this.#options.caption ?? {}, randomStream(0));
  }

  #placeOf(batchIndex: number): BatchPlace {
    const epoch = this.plan.epochOf(batchIndex);
    let order = this.#batchOrders.get(epoch);
    if (order === undefined) {
      order = this.#orderOf(epoch);
      forgetOthers(this.#batchOrders, epoch);
      this.#batchOrders.set(epoch, order);
    }
    return order[batchIndex - this.plan.batchesForEpochs(epoch)]!;
  }

  /** The buckets of an epoch's batches are shuffled; the batches of one bucket follow its own order. */
  #orderOf(epoch: number): BatchPlace[] {
    const { plan } = this;
    const next = plan.bucketSamples.map((_, bucket) => plan.bucketBatches(bucket, epoch));
    const buckets = next.flatMap((first, bucket) =>
      new Array<number>(plan.bucketBatches(bucket, epoch + 1) - first).fill(bucket),
    );
    const order =
      next.length === 1 ? buckets : randomStream(this.#options.seed, "bucket order", epoch).shuffle(buckets);
    return order.map((bucket) => ({ bucket, ordinal: next[bucket]!++ }));
  }
}

/** The n-th batch (from 0, over the run) of a bucket. */
interface BatchPlace {
  readonly bucket: number;
  readonly ordinal: number;
}

/** The items of one size as an endless sequence. */
class SampledBucket {
  /** Samples in one epoch, repeats included. */
  readonly epochLength: number;
  readonly #name: string | null;
  readonly #items: readonly DatasetItem[];
  readonly #seed: number;
  /** Index into the items for each place of an epoch before shuffling. */
  readonly #places: Int32Array;
  readonly #orders = new Map<number, readonly number[]>();

  constructor(name: string | null, items: readonly DatasetItem[], seed: number) {
    this.#name = name;
    this.#items = items;
    this.#seed = seed;
    this.epochLength = epochLength(items);
    this.#places = new Int32Array(this.epochLength);
    let place = 0;
    items.forEach(({ repeats }, index) => {
      this.#places.fill(index, place, place + repeats);
      place += repeats;
    });
  }

  at(position: number): { item: DatasetItem; epoch: number } {
    const epoch = Math.floor(position / this.epochLength);
    const place = this.#orderOf(epoch)[position % this.epochLength]!;
    return { item: this.#items[this.#places[place]!]!, epoch };
  }

  #orderOf(epoch: number): readonly number[] {
    let order = this.#orders.get(epoch);
    if (order === undefined) {
      const places = Array.from({ length: this.epochLength }, (_, place) => place);
      const name = this.#name === null ? [] : [this.#name];
      order = randomStream(this.#seed, "epoch order", epoch, ...name).shuffle(places);
      forgetOthers(this.#orders, epoch);
      this.#orders.set(epoch, order);
    }
    return order;
  }
}

/** Items by size, in the order of the sizes; items without a frame are of one size that has no name. */
function bucketItems(items: readonly DatasetItem[]): { name: string | null; items: DatasetItem[] }[] {
  const buckets = new Map<string | null, DatasetItem[]>();
  const framed = (item: DatasetItem) => item.frame ?? { width: 0, height: 0 };
  for (const item of [...items].sort((a, b) => compareSizes(framed(a), framed(b)))) {
    const name = item.frame === undefined ? null : sizeName(item.frame);
    const bucket = buckets.get(name);
    if (bucket === undefined) buckets.set(name, [item]);
    else bucket.push(item);
  }
  return [...buckets].map(([name, members]) => ({ name, items: members }));
}

/** Drops what belongs to epochs that are no neighbours of this one. */
function forgetOthers(byEpoch: Map<number, unknown>, epoch: number): void {
  for (const known of byEpoch.keys()) if (known < epoch - 1 || known > epoch + 1) byEpoch.delete(known);
}
