import { describe, expect, test } from "vitest";
import { chooseExecutionMode } from "./execution-mode.js";

/** A million weights, half of them in each component: 8 MB for what fast mode prepares. */
const half = { weights: new Map([["w", { shape: [1000, 500] }]]) };
const weights = { unet: half, textEncoder: half };
const GB = 1e9;

const choose = (steps: number, freeBytes: number) =>
  chooseExecutionMode("auto", "cpu", { steps, weights, freeBytes });

describe("--execution_mode auto", () => {
  test("a run that is long enough gets the mode that steps faster", () => {
    expect(choose(9, GB)).toBe("lean");
    expect(choose(10, GB)).toBe("fast");
  });

  test("but only where the prepared weights fit into memory, with room for the rest", () => {
    expect(choose(1000, 10.5e6)).toBe("lean");
    expect(choose(1000, 10.5e6 + 1)).toBe("fast");
  });

  test("without a figure it asks the machine", () => {
    expect(chooseExecutionMode("auto", "cpu", { steps: 1000, weights })).toBe("fast");
  });

  test("a GPU always gets fast, whose weights are copied to it anyway", () => {
    expect(chooseExecutionMode("auto", "webgpu", { steps: 1, weights, freeBytes: 0 })).toBe("fast");
    expect(chooseExecutionMode("lean", "webgpu", { steps: 1, weights })).toBe("fast");
  });
});

test("what the user chose counts, whatever there is", () => {
  for (const mode of ["fast", "lean"] as const) {
    expect(chooseExecutionMode(mode, "cpu", { steps: 1, weights, freeBytes: 0 })).toBe(mode);
    expect(chooseExecutionMode(mode, "cpu", { steps: 1e6, weights, freeBytes: GB })).toBe(mode);
  }
});
