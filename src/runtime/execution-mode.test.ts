import { describe, expect, test } from "vitest";
import { chooseExecutionMode, chooseSizeModes, modeOf } from "./execution-mode.js";

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

describe("several sizes", () => {
  const sizes = [
    { width: 448, height: 576, steps: 40 },
    { width: 512, height: 512, steps: 100 },
    { width: 576, height: 448, steps: 9 },
  ];
  const modes = (freeBytes: number, choice: "auto" | "fast" | "lean" = "auto") =>
    chooseSizeModes(choice, "cpu", { sizes, weights, freeBytes });

  test("those with most steps are fast, as many as fit side by side and are used often enough", () => {
    expect(modes(10.5e6)).toEqual({ mode: "lean", leanSizes: [] });
    expect(modes(10.5e6 + 1)).toEqual({ mode: "fast", leanSizes: ["448x576", "576x448"] });
    expect(modes(21e6 + 2)).toEqual({ mode: "fast", leanSizes: ["576x448"] });
    // The third is used too seldom, whatever memory there is.
    expect(modes(GB)).toEqual({ mode: "fast", leanSizes: ["576x448"] });
  });

  test("what the user chose counts for all of them", () => {
    expect(modes(0, "fast")).toEqual({ mode: "fast", leanSizes: [] });
    expect(modes(GB, "lean")).toEqual({ mode: "lean", leanSizes: [] });
  });

  test("the mode of a size", () => {
    const mixed = modes(GB);
    expect(modeOf(mixed, { width: 576, height: 448 })).toBe("lean");
    expect(modeOf(mixed, { width: 448, height: 576 })).toBe("fast");
  });
});
