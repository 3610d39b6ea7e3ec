import { describe, expect, test } from "vitest";
import { createTrainConfig } from "./config.js";
import type { PreparedRun } from "./prepare.js";
import { shouldValidate } from "./validation.js";

const TOTAL = 10;

/** Steps at which a run of 10 steps validates; every 4 steps end an epoch. */
function validatedSteps(options: { validateEveryNSteps?: number; validateEveryNEpochs?: number }): number[] {
  const config = createTrainConfig({
    pretrainedModelNameOrPath: "/m.safetensors",
    trainDataDir: "/data",
    validationSplit: 0.1,
    ...options,
  });
  // Only whether there is anything to validate on counts here.
  const run = { config, totalSteps: TOTAL, heldOut: {} as PreparedRun["heldOut"] };
  const epochsEnded = (step: number) => (step % 4 === 0 ? [step / 4] : []);
  return Array.from({ length: TOTAL }, (_, index) => index + 1).filter((step) =>
    shouldValidate(run, step, epochsEnded(step)),
  );
}

describe("a run with held-out images validates", () => {
  test("after every epoch, and at its end", () => {
    expect(validatedSteps({})).toEqual([4, 8, 10]);
  });

  test("every so many steps, then not by epochs", () => {
    expect(validatedSteps({ validateEveryNSteps: 3 })).toEqual([3, 6, 9, 10]);
  });

  test("every so many epochs", () => {
    expect(validatedSteps({ validateEveryNEpochs: 2 })).toEqual([8, 10]);
  });

  test("by both, where both are asked for", () => {
    expect(validatedSteps({ validateEveryNSteps: 5, validateEveryNEpochs: 1 })).toEqual([4, 5, 8, 10]);
  });
});

test("a step that ends several epochs validates if one of them is due", () => {
  const config = createTrainConfig({
    pretrainedModelNameOrPath: "/m.safetensors",
    trainDataDir: "/data",
    validationSplit: 0.1,
    validateEveryNEpochs: 2,
  });
  const run = { config, totalSteps: TOTAL, heldOut: {} as PreparedRun["heldOut"] };
  expect(shouldValidate(run, 1, [1, 2, 3])).toBe(true);
  expect(shouldValidate(run, 1, [3])).toBe(false);
});

test("without held-out images it never does", () => {
  const config = createTrainConfig({ pretrainedModelNameOrPath: "/m.safetensors", trainDataDir: "/data" });
  expect(shouldValidate({ config, totalSteps: TOTAL, heldOut: null }, TOTAL, [1])).toBe(false);
});
