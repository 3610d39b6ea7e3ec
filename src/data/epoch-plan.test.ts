import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { EpochPlan } from "./epoch-plan.js";

describe("EpochPlan", () => {
  test("every bucket has the batches that it takes to show its samples", () => {
    // 5 samples in batches of 2 are complete after 3, 5, 8, 10 batches; 3 samples after 2, 3, 5, 6.
    const plan = new EpochPlan([5, 3], 2);
    expect(plan.samplesPerEpoch).toBe(8);
    expect([0, 1, 2, 3, 4].map((epochs) => plan.batchesForEpochs(epochs))).toEqual([0, 5, 8, 13, 16]);
    expect([0, 4, 5, 7, 8, 12, 13, 16].map((batches) => plan.epochsCompleted(batches))).toEqual([
      0, 0, 1, 1, 2, 2, 3, 4,
    ]);
    expect([4, 5, 7, 8].map((batch) => plan.epochOf(batch))).toEqual([0, 1, 1, 2]);
  });

  test("a bucket smaller than a batch has none in most epochs", () => {
    const plan = new EpochPlan([1, 4], 4);
    expect([1, 2, 3, 4, 5].map((epochs) => plan.bucketBatches(0, epochs))).toEqual([1, 1, 1, 1, 2]);
    expect([1, 2, 3, 4, 5].map((epochs) => plan.batchesForEpochs(epochs))).toEqual([2, 3, 4, 5, 7]);
  });

  test("rounding does not add up: epochs are complete, and at most one batch of each bucket goes beyond them", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 6 }),
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 0, max: 40 }),
        (samples, batchSize, epochs) => {
          const plan = new EpochPlan(samples, batchSize);
          const batches = plan.batchesForEpochs(epochs);
          const least = (epochs * plan.samplesPerEpoch) / batchSize;
          expect(batches).toBeGreaterThanOrEqual(least);
          expect(batches).toBeLessThan(least + samples.length);
          expect(plan.epochsCompleted(batches)).toBeGreaterThanOrEqual(epochs);
          if (batches > 0) expect(plan.epochsCompleted(batches - 1)).toBeLessThan(epochs);
        },
      ),
    );
  });
});
