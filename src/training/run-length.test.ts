import { expect, test } from "vitest";
import { EpochPlan } from "../data/index.js";
import { runLength } from "./run-length.js";

const steps = { maxTrainSteps: 10, maxTrainEpochs: null, gradientAccumulationSteps: 1 };
const plan = (samples: number, batchSize = 1) => new EpochPlan([samples], batchSize);

test("a run of steps ends in the epoch that the last one lies in", () => {
  expect(runLength(steps, plan(5))).toEqual({ totalSteps: 10, totalEpochs: 2, batchesPerEpoch: 5 });
  expect(runLength(steps, plan(4))).toEqual({ totalSteps: 10, totalEpochs: 3, batchesPerEpoch: 4 });
  expect(runLength({ ...steps, gradientAccumulationSteps: 2 }, plan(20, 3))).toEqual({
    totalSteps: 10,
    totalEpochs: 3,
    batchesPerEpoch: 7,
  });
});

test("a run of epochs has the steps that show every sample as often", () => {
  const epochs = { ...steps, maxTrainEpochs: 2 };
  expect(runLength(epochs, plan(5))).toEqual({ totalSteps: 10, totalEpochs: 2, batchesPerEpoch: 5 });
  // 10 samples in batches of 4 are 3 batches, in steps of 2 batches 2 steps.
  const large = { ...epochs, gradientAccumulationSteps: 2 };
  expect(runLength(large, plan(5, 4))).toEqual({ totalSteps: 2, totalEpochs: 2, batchesPerEpoch: 2 });
});

test("buckets are counted one by one: each fills batches of its own", () => {
  // 5 and 3 samples in batches of 2: 3 + 2 batches, after two epochs 5 + 3.
  const buckets = new EpochPlan([5, 3], 2);
  expect(runLength({ ...steps, maxTrainEpochs: 1 }, buckets).totalSteps).toBe(5);
  expect(runLength({ ...steps, maxTrainEpochs: 2 }, buckets)).toEqual({
    totalSteps: 8,
    totalEpochs: 2,
    batchesPerEpoch: 5,
  });
  expect(runLength({ ...steps, maxTrainSteps: 8 }, buckets).totalEpochs).toBe(2);
  expect(runLength({ ...steps, maxTrainSteps: 9 }, buckets).totalEpochs).toBe(3);
});
