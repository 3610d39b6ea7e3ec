import path from "node:path";
import { expect, test } from "vitest";
import { createBenchConfig } from "./bench-config.js";

const REQUIRED = {
  files: ["a.safetensors"],
  pretrainedModelNameOrPath: "sd15.safetensors",
  data: "held-out",
};

test("defaults are filled in, paths made absolute", () => {
  expect(createBenchConfig(REQUIRED)).toMatchObject({
    files: [path.resolve("a.safetensors")],
    pretrainedModelNameOrPath: path.resolve("sd15.safetensors"),
    data: path.resolve("held-out"),
    ranks: null,
    multiplier: [1],
    tolerance: 0.05,
    samples: 4,
    until: null,
    cache: null,
    batchSize: 1,
    seed: 0,
    device: "auto",
  });
});

test.each([
  [{}, 4],
  [{ samples: null }, 4],
  [{ samples: 1 }, 4],
  [{ samples: 4 }, 4],
  [{ samples: 10 }, 12],
  [{ until: 0.01 }, 64],
  [{ until: 0.01, samples: 30 }, 32],
])("%j: %d draws, the same number in every band", (given, samples) => {
  expect(createBenchConfig({ ...REQUIRED, ...given }).samples).toBe(samples);
});

test("every strength is measured once, in order", () => {
  expect(createBenchConfig({ ...REQUIRED, multiplier: [1, 0.5, 1, -0.5] }).multiplier).toEqual([
    -0.5, 0.5, 1,
  ]);
});

test.each([
  [{ files: [] }, "files expects"],
  [{ files: [""] }, "files expects"],
  [{ data: undefined as unknown as string }, "--data is missing"],
  [{ multiplier: [] }, "multiplier expects"],
  [{ multiplier: [Number.NaN] }, "multiplier expects"],
  [{ until: 0 }, "until expects a number above 0"],
  [{ tolerance: 1 }, "tolerance expects"],
  [{ rank: [4] }, "unknown option rank"],
])("%j is refused", (given, message) => {
  const create = () => createBenchConfig({ ...REQUIRED, ...given });
  expect(create).toThrow(
    expect.objectContaining({ code: "E_CONFIG", message: expect.stringContaining(message) }),
  );
});
