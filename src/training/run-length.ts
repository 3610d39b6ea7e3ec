/** How long a run is. */

import type { TrainConfig } from "./config.js";

export interface RunLength {
  /** Optimizer steps. */
  readonly totalSteps: number;
  readonly totalEpochs: number;
  /** Batches, so micro-steps, of one epoch. */
  readonly batchesPerEpoch: number;
}

/**
 * Steps and epochs of a run; an optimizer step takes `gradientAccumulationSteps` batches.
 *
 * @param samplesPerEpoch - images, counted as often as they are repeated
 */
export function runLength(
  config: Pick<
    TrainConfig,
    "maxTrainSteps" | "maxTrainEpochs" | "trainBatchSize" | "gradientAccumulationSteps"
  >,
  samplesPerEpoch: number,
): RunLength {
  const { maxTrainSteps, maxTrainEpochs, trainBatchSize, gradientAccumulationSteps } = config;
  // Batches go on over the end of an epoch; the last one may already show samples of the next.
  const batches = (epochs: number) => Math.ceil((epochs * samplesPerEpoch) / trainBatchSize);
  const samplesPerStep = gradientAccumulationSteps * trainBatchSize;
  return {
    totalSteps:
      maxTrainEpochs === null
        ? maxTrainSteps
        : Math.ceil(batches(maxTrainEpochs) / gradientAccumulationSteps),
    totalEpochs: maxTrainEpochs ?? Math.ceil((maxTrainSteps * samplesPerStep) / samplesPerEpoch),
    batchesPerEpoch: batches(1),
  };
}
