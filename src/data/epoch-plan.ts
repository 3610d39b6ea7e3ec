/** How many batches epochs have when batches are full and hold images of one bucket only. */

/**
 * Counts of an endless sequence of full batches over several buckets.
 *
 * Every bucket is an endless sequence of its own, epoch after epoch, from which batches are cut. Epoch `e` (from 0) has of
 * every bucket the batches that it takes until its images were shown `e + 1` times:
 * `ceil((e + 1) * n / batchSize) - ceil(e * n / batchSize)` for `n` samples. So a batch may hold the end of one epoch and
 * the beginning of the next, in the long run every image is shown as often as any other, and what rounding adds to the
 * first epoch is missing in later ones.
 */
export class EpochPlan {
  /** Samples of each bucket in one epoch, repeats included. */
  readonly bucketSamples: readonly number[];
  readonly batchSize: number;

  /** @param bucketSamples - at least one bucket, none of them empty */
  constructor(bucketSamples: readonly number[], batchSize: number) {
    this.bucketSamples = bucketSamples;
    this.batchSize = batchSize;
  }

  get samplesPerEpoch(): number {
    return this.bucketSamples.reduce((total, samples) => total + samples, 0);
  }

  /** Batches of one bucket that the first `epochs` epochs have. */
  bucketBatches(bucket: number, epochs: number): number {
    return Math.ceil((epochs * this.bucketSamples[bucket]!) / this.batchSize);
  }

  /** Batches after which this many epochs are complete; the last ones may already show samples of the next epoch. */
  batchesForEpochs(epochs: number): number {
    return this.bucketSamples.reduce((total, _, bucket) => total + this.bucketBatches(bucket, epochs), 0);
  }

  /** Whole epochs behind the run when this many batches are done. */
  epochsCompleted(batchesDone: number): number {
    // Rounding only adds batches: there cannot be more epochs than that.
    let epochs = Math.floor((batchesDone * this.batchSize) / this.samplesPerEpoch);
    while (this.batchesForEpochs(epochs) > batchesDone) epochs--;
    return epochs;
  }

  /** The epoch (from 0) that a batch belongs to: the one that it is needed for. */
  epochOf(batchIndex: number): number {
    return this.epochsCompleted(batchIndex);
  }
}
