/** How long a run is. */

import type { EpochPlan } from "../data/index.js";
import type { TrainConfig } from "./config.js";

export interface RunLength {
  /** Optimizer steps. */
  readonly totalSteps: number;
  readonly totalEpochs: number;
  /** Batches, so micro-steps, of the first epoch; with rounding, later ones may have fewer. */
  readonly batchesPerEpoch: number;
}

/** Steps and epochs of a run; an optimizer step takes `gradientAccumulationSteps` batches. */
export function runLength(
  config: Pick<TrainConfig, "maxTrainSteps" | "maxTrainEpochs" | "gradientAccumulationSteps">,
  plan: EpochPlan,
): RunLength {
  const { maxTrainSteps, maxTrainEpochs, gradientAccumulationSteps } = config;
  const totalSteps =
    maxTrainEpochs === null
      ? maxTrainSteps
      : Math.ceil(plan.batchesForEpochs(maxTrainEpochs) / gradientAccumulationSteps);
  return {
    totalSteps,
    totalEpochs: maxTrainEpochs ?? plan.epochOf(totalSteps * gradientAccumulationSteps - 1) + 1,
    batchesPerEpoch: plan.batchesForEpochs(1),
  };
}
