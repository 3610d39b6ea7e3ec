import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DyloraError } from "../errors.js";
import {
  createLrSchedule,
  LR_SCHEDULER_NAMES,
  type LrScheduleOptions,
  type LrSchedulerName,
  stepCount,
} from "./lr-schedule.js";

const schedule = (name: LrSchedulerName, options: Partial<LrScheduleOptions> = {}) =>
  createLrSchedule({ name, totalSteps: 100, learningRate: 1e-4, ...options });

/** The multipliers at some steps, each compared to 12 digits. */
function expectAt(
  options: Partial<LrScheduleOptions> & { name: LrSchedulerName },
  values: Record<number, number>,
): void {
  const multiplier = schedule(options.name, options);
  for (const [step, value] of Object.entries(values)) {
    expect(multiplier(Number(step)), `step ${step}`).toBeCloseTo(value, 12);
  }
}

function refusal(name: LrSchedulerName, options: Partial<LrScheduleOptions>): DyloraError {
  try {
    schedule(name, options);
  } catch (error) {
    if (error instanceof DyloraError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

// Values computed by hand from the formulas of diffusers `optimization.py` and, for the last three, transformers
// `optimization.py` with the arguments that sd-scripts' get_scheduler_fix passes.
describe("createLrSchedule", () => {
  it("constant", () => expectAt({ name: "constant" }, { 0: 1, 50: 1, 100: 1, 1000: 1 }));

  it("constant_with_warmup: starts at 0", () => {
    expectAt({ name: "constant_with_warmup", warmupSteps: 4 }, { 0: 0, 1: 0.25, 3: 0.75, 4: 1, 99: 1 });
    expectAt({ name: "constant_with_warmup" }, { 0: 1 });
  });

  it("linear: to 0 at the total", () => {
    expectAt({ name: "linear" }, { 0: 1, 25: 0.75, 99: 0.01, 100: 0, 150: 0 });
    // Warm-up 20: (100 - 60) / (100 - 20).
    expectAt({ name: "linear", warmupSteps: 20 }, { 10: 0.5, 20: 1, 60: 0.5, 99: 1 / 80 });
  });

  it("cosine: half a wave", () => {
    // Thirds of the way: (1 + cos 60°) / 2 = 0.75 and (1 + cos 120°) / 2 = 0.25.
    expectAt({ name: "cosine", warmupSteps: 10 }, { 5: 0.5, 10: 1, 40: 0.75, 55: 0.5, 70: 0.25, 100: 0 });
    expectAt({ name: "cosine", args: ["num_cycles=1"] }, { 0: 1, 50: 0, 75: 0.5, 100: 1 });
  });

  it("cosine_with_restarts: back to 1 at each restart, 0 at the end", () => {
    expectAt(
      { name: "cosine_with_restarts", warmupSteps: 10, numCycles: 3 },
      { 5: 0.5, 10: 1, 20: 0.75, 25: 0.5, 30: 0.25, 40: 1, 55: 0.5, 70: 1, 100: 0, 120: 0 },
    );
    expectAt({ name: "cosine_with_restarts" }, { 50: 0.5 });
  });

  it("polynomial: to 1e-7, not to 0", () => {
    // (1e-4 - 1e-7) * 0.5^2 + 1e-7 = 2.5075e-5, as a share of 1e-4.
    expectAt({ name: "polynomial", power: 2 }, { 0: 1, 50: 0.25075, 100: 0.001, 200: 0.001 });
    expectAt({ name: "polynomial", warmupSteps: 20, args: ["lr_end=5e-5"] }, { 10: 0.5, 60: 0.75, 100: 0.5 });
  });

  it("piecewise_constant: factors until steps, in any order, with or without Python's quotes", () => {
    const values = { 0: 1, 9: 1, 10: 0.1, 19: 0.1, 20: 0.01, 29: 0.01, 30: 0.005, 1000: 0.005 };
    for (const rules of ["1:10,0.1:20,0.01:30,0.005", "'0.1:20, 1:10, 0.01:30, 0.005'"]) {
      expectAt({ name: "piecewise_constant", args: [`step_rules=${rules}`] }, values);
    }
    expectAt({ name: "piecewise_constant", args: ["step_rules=0.5"] }, { 0: 0.5, 99: 0.5 });
  });

  it("inverse_sqrt: falls with the root of the step", () => {
    // Time scale = warm-up = 16: at step s the multiplier is 1 / sqrt(s / 16).
    expectAt({ name: "inverse_sqrt", warmupSteps: 16 }, { 8: 0.5, 16: 1, 64: 0.5, 400: 0.2 });
    // Time scale 9 and warm-up 16: 1 / sqrt((s - 7) / 9).
    expectAt({ name: "inverse_sqrt", warmupSteps: 16, timescale: 9 }, { 16: 1, 43: 0.5 });
    expectAt({ name: "inverse_sqrt" }, { 0: 1, 30000: 0.5 });
  });

  it("cosine_with_min_lr: half a wave down to the minimum", () => {
    // 0.2 + 0.8 * 0.75, 0.2 + 0.8 * 0.25.
    expectAt(
      { name: "cosine_with_min_lr", warmupSteps: 10, minLrRatio: 0.2 },
      { 5: 0.5, 10: 1, 40: 0.8, 70: 0.4, 100: 0.2 },
    );
    expectAt({ name: "cosine_with_min_lr", args: ["min_lr=2e-5"] }, { 50: 0.6, 100: 0.2 });
    expectAt({ name: "cosine_with_min_lr", minLrRatio: 0, numCycles: 2 }, { 50: 0, 100: 1 });
  });

  it("warmup_stable_decay: up, level, down", () => {
    const options = { name: "warmup_stable_decay", warmupSteps: 10, decaySteps: 30 } as const;
    expectAt(options, { 0: 0, 5: 0.5, 10: 1, 69: 1, 70: 1, 80: 0.75, 85: 0.5, 90: 0.25, 100: 0 });
    expectAt({ ...options, minLrRatio: 0.2 }, { 0: 0.2, 5: 0.6, 10: 1, 80: 0.8, 100: 0.2, 101: 0.2 });
    expectAt(
      { ...options, args: ["decay_type=linear", "warmup_type=cosine"] },
      { 5: 0.5, 70: 1, 80: 2 / 3, 90: 1 / 3 },
    );
    // A quarter of the way down: 1 - sqrt(1/4). A quarter of the way up: 1 - sqrt(3/4).
    expectAt(
      { ...options, warmupSteps: 8, decaySteps: 40, args: ["decay_type=1-sqrt", "warmup_type=1-sqrt"] },
      { 2: 1 - Math.sqrt(0.75), 70: 0.5 },
    );
    expectAt({ name: "warmup_stable_decay" }, { 0: 1, 99: 1 });
  });

  it("takes warm-up and decay as shares of the total", () => {
    expectAt({ name: "constant_with_warmup", warmupSteps: 0.04 }, { 1: 0.25, 4: 1 });
    expectAt({ name: "warmup_stable_decay", warmupSteps: 0.1, decaySteps: 0.3 }, { 5: 0.5, 69: 1, 85: 0.5 });
    expect([stepCount(0, 100), stepCount(0.1, 99), stepCount(1, 100), stepCount(7, 100)]).toEqual([
      0, 9, 1, 7,
    ]);
  });

  it("is never negative and never above 1 within a run, for any options", () => {
    const options = fc.record({
      name: fc.constantFrom(...LR_SCHEDULER_NAMES.filter((name) => name !== "piecewise_constant")),
      totalSteps: fc.integer({ min: 1, max: 500 }),
      warmup: fc.double({ min: 0, max: 0.49, noNaN: true }),
      decay: fc.double({ min: 0, max: 0.49, noNaN: true }),
      numCycles: fc.integer({ min: 1, max: 5 }),
      power: fc.double({ min: 0.1, max: 4, noNaN: true }),
      minLrRatio: fc.double({ min: 0, max: 1, noNaN: true }),
    });
    fc.assert(
      fc.property(options, ({ name, totalSteps, warmup, decay, numCycles, power, minLrRatio }) => {
        const multiplier = createLrSchedule({
          name,
          totalSteps,
          warmupSteps: name === "constant" ? 0 : warmup,
          decaySteps: decay,
          numCycles,
          power,
          minLrRatio,
          learningRate: 1e-4,
        });
        for (let step = 0; step < totalSteps; step++) {
          expect(multiplier(step)).toBeGreaterThanOrEqual(0);
          expect(multiplier(step)).toBeLessThanOrEqual(1 + 1e-12);
        }
      }),
    );
  });

  it("does not stop learning when a run is resumed with a larger total (sd-scripts#141)", () => {
    const first = schedule("cosine", { totalSteps: 100 });
    const resumed = schedule("cosine", { totalSteps: 200 });
    expect(first(99)).toBeLessThan(0.001);
    expect(resumed(100)).toBeCloseTo(0.5, 12);
  });

  it.each([
    ["constant", { warmupSteps: 10 }, "lr_scheduler constant has no warm-up", "constant_with_warmup"],
    [
      "piecewise_constant",
      { warmupSteps: 10, args: ["step_rules=1"] },
      "piecewise_constant has no warm-up",
      "step_rules",
    ],
    ["linear", { warmupSteps: 101 }, "101 steps do not fit into 100", "share"],
    ["warmup_stable_decay", { warmupSteps: 60, decaySteps: 50 }, "60 steps of warm-up and 50 of decay", ""],
    ["cosine_with_min_lr", {}, "needs lr_scheduler_min_lr_ratio", "0.1"],
    ["cosine_with_min_lr", { minLrRatio: 0.1, args: ["min_lr=1e-5"] }, "together", "one of them"],
    ["polynomial", { learningRate: 1e-8 }, "learning_rate 1e-8 is not above its end 1e-7", "lr_end=0"],
    ["piecewise_constant", {}, "needs step_rules", "step_rules=1:1000"],
    [
      "piecewise_constant",
      { args: ["step_rules=1:10:2,0.1"] },
      '"1:10:2" is not of the form factor:step',
      "",
    ],
    ["piecewise_constant", { args: ["step_rules=0.5,0.1"] }, '"0.5" is not of the form factor:step', ""],
    ["piecewise_constant", { args: ["step_rules=1:10,"] }, '"" is no number from 0', ""],
    [
      "warmup_stable_decay",
      { args: ["decay_type=sqrt"] },
      "decay_type must be linear or cosine or 1-sqrt",
      "",
    ],
    ["polynomial", { args: ["lr_ends=0"] }, "did you mean lr_end?", ""],
    ["linear", { args: ["power=2"] }, "unknown key power", "takes no keys"],
  ] as const)("refuses %s with %j", (name, options, message, note) => {
    const error = refusal(name, options);
    expect(error.code).toBe("E_CONFIG");
    expect(error.message).toContain(message);
    expect(error.note ?? "").toContain(note);
  });
});
