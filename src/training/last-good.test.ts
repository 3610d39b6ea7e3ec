import { beforeEach, describe, expect, test } from "vitest";
import { LastGood } from "./last-good.js";
import { LossAverages } from "./metrics-averages.js";
import { freshModule } from "./network.js";
import { adamW, createFactorState } from "./optimizer/index.js";
import type { RunProgress } from "./run-state.js";
import type { TrainedModule } from "./trained-module.js";

const [rank, inFeatures, outFeatures] = [2, 3, 4];
const optimizer = adamW();

let module: TrainedModule;
let progress: RunProgress;
let clockMs: number;
let copyMs: number;
let lastGood: LastGood;

beforeEach(() => {
  const factors = freshModule(
    {
      name: "lora_unet_a",
      path: "a",
      component: "unet",
      kind: "linear",
      inFeatures,
      outFeatures,
      stride: 1,
    },
    rank,
    1,
    1,
  );
  module = {
    factors,
    down: createFactorState(optimizer, rank, inFeatures),
    up: createFactorState(optimizer, rank, outFeatures),
    gradients: { down: new Float32Array(rank * inFeatures), up: new Float32Array(rank * outFeatures) },
  };
  progress = {
    step: 0,
    averages: new LossAverages(),
    lossScaler: null,
    validationDue: false,
    samplesDue: false,
    startedAt: new Date(0),
    sessionId: 1,
  };
  clockMs = 0;
  copyMs = 1;
  // Each look at the clock is as long after the last one as a copy takes.
  lastGood = new LastGood([module], () => (clockMs += copyMs));
});

/** One step on the first component of both factors, and the time it took. */
function step(elapsedMs: number): void {
  for (const part of ["down", "up"] as const) {
    const width = part === "down" ? inFeatures : outFeatures;
    optimizer.step({
      values: module.factors[part],
      state: module[part],
      rows: { begin: 0, end: 1 },
      gradient: new Float32Array(width).fill(1),
      learningRate: 0.1,
    });
  }
  progress.averages.add(1, 0.5 + progress.step);
  progress.step++;
  clockMs += elapsedMs;
}

const everything = () =>
  structuredClone({
    factors: [module.factors.down, module.factors.up],
    states: [module.down, module.up],
    step: progress.step,
    averages: progress.averages.state,
  });

describe("LastGood", () => {
  test("goes back to factors, moments, step counts and averages of the last copy", () => {
    step(1000);
    const good = everything();
    lastGood.remember(progress);
    step(1000);
    step(1000);
    expect(everything()).not.toEqual(good);
    lastGood.restore(progress);
    expect(everything()).toEqual(good);
    // And once more: the copy is not what the run goes on with.
    step(1000);
    lastGood.restore(progress);
    expect(everything()).toEqual(good);
  });

  test("keeps the newest", () => {
    for (let count = 0; count < 3; count++) {
      step(1000);
      lastGood.remember(progress);
    }
    step(1000);
    lastGood.restore(progress);
    expect(progress.step).toBe(3);
  });

  test("steps that are short beside a copy are not copied one by one", () => {
    copyMs = 10;
    const copied: number[] = [];
    for (let count = 0; count < 300; count++) {
      lastGood.remember(progress);
      step(10);
      const now = progress.step;
      lastGood.restore(progress);
      if (progress.step !== copied.at(-1)) copied.push(progress.step);
      progress.step = now;
    }
    // Copies of 10 ms, at most 1 % of the time: one a second, which is 50 steps of 10 ms and a look at the clock.
    expect(copied.length).toBeGreaterThan(3);
    for (const [index, at] of copied.slice(2).entries())
      expect(at - copied[index + 1]!).toBeGreaterThanOrEqual(45);
  });

  test("without a copy it changes nothing", () => {
    step(1000);
    const before = everything();
    lastGood.restore(progress);
    expect(everything()).toEqual(before);
  });
});
