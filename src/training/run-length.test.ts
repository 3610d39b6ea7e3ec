import { expect, test } from "vitest";
import { runLength } from "./run-length.js";

const steps = { maxTrainSteps: 10, maxTrainEpochs: null, trainBatchSize: 1, gradientAccumulationSteps: 1 };

test("a run of steps ends in the epoch that the last one lies in", () => {
  expect(runLength(steps, 5)).toEqual({ totalSteps: 10, totalEpochs: 2, batchesPerEpoch: 5 });
  expect(runLength(steps, 4)).toEqual({ totalSteps: 10, totalEpochs: 3, batchesPerEpoch: 4 });
  expect(runLength({ ...steps, trainBatchSize: 3, gradientAccumulationSteps: 2 }, 20)).toEqual({
    totalSteps: 10,
    totalEpochs: 3,
    batchesPerEpoch: 7,
  });
});

test("a run of epochs has the steps that show every sample as often", () => {
  const epochs = { ...steps, maxTrainEpochs: 2 };
  expect(runLength(epochs, 5)).toEqual({ totalSteps: 10, totalEpochs: 2, batchesPerEpoch: 5 });
  // 10 samples in batches of 4 are 3 batches, in steps of 2 batches 2 steps.
  const large = { ...epochs, trainBatchSize: 4, gradientAccumulationSteps: 2 };
  expect(runLength(large, 5)).toEqual({ totalSteps: 2, totalEpochs: 2, batchesPerEpoch: 2 });
});
