import { describe, expect, test } from "vitest";
import { assignBuckets, bucketsOf, meanAspectError } from "./assign-buckets.js";
import type { BucketRules } from "./buckets.js";
import type { DatasetItem } from "./dataset.js";

const RULES: BucketRules = {
  resolution: { width: 512, height: 512 },
  minSide: 256,
  maxSide: 1024,
  steps: 64,
  noUpscale: false,
};

function item(name: string, repeats = 1): DatasetItem {
  return { key: `1_x/${name}`, imagePath: `/data/1_x/${name}`, caption: "", repeats, subset: "1_x" };
}

function assign(
  sizes: readonly (readonly [width: number, height: number, repeats?: number])[],
  changes = {},
) {
  const items = sizes.map(([, , repeats], index) => item(`${index}.png`, repeats));
  const probed = items.map((probe, index) => ({
    item: probe,
    width: sizes[index]![0],
    height: sizes[index]![1],
  }));
  return assignBuckets({ items, warnings: ["an earlier one"] }, probed, { ...RULES, ...changes });
}

describe("assignBuckets", () => {
  test("gives every image its frame, and counts images and samples by size", () => {
    const { items, warnings } = assign([
      [1000, 750],
      [600, 800, 3],
      [576, 448, 2],
      [448, 576],
    ]);
    expect(warnings).toEqual(["an earlier one"]);
    expect(items.map(({ key, frame }) => [key, frame?.width, frame?.height])).toEqual([
      ["1_x/0.png", 576, 448],
      ["1_x/1.png", 448, 576],
      ["1_x/2.png", 576, 448],
      ["1_x/3.png", 448, 576],
    ]);
    expect(bucketsOf(items)).toEqual([
      { width: 448, height: 576, imageCount: 2, sampleCount: 4 },
      { width: 576, height: 448, imageCount: 2, sampleCount: 3 },
    ]);
    // 4/3 against 9/7 and 3/4 against 7/9; the others fit. Repeats do not count.
    expect(meanAspectError(items)).toBeCloseTo((4 / 3 - 9 / 7 + 7 / 9 - 3 / 4) / 4, 12);
  });

  test("an image that is too small to be used as it is is left out and named", () => {
    const { items, warnings } = assign(
      [
        [300, 500],
        [50, 500],
      ],
      { noUpscale: true },
    );
    expect(items.map(({ key }) => key)).toEqual(["1_x/0.png"]);
    expect(warnings[1]).toMatch(/^skipped 1 image \(.*1\.png \(50x500\)\): .*64 px/);
    expect(() => assign([[50, 50]], { noUpscale: true })).toThrow(
      expect.objectContaining({ code: "E_DATA", message: expect.stringContaining("0.png (50x50)") }),
    );
  });

  test("without frames there are no buckets", () => {
    expect(bucketsOf([item("a.png")])).toEqual([]);
    expect(meanAspectError([item("a.png")])).toBe(0);
    expect(meanAspectError([])).toBe(0);
  });
});
