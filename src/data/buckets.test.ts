import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { adjustBounds, type BucketRules, bucketSizes, framing, sizeName } from "./buckets.js";

/** sd-scripts' defaults at 512 px. */
const RULES: BucketRules = {
  resolution: { width: 512, height: 512 },
  minSide: 256,
  maxSide: 1024,
  steps: 64,
  noUpscale: false,
};

const names = (rules: Partial<BucketRules> = {}) => bucketSizes({ ...RULES, ...rules }).map(sizeName);

/** `bucket of scaled image` */
function frameName(width: number, height: number, rules: Partial<BucketRules> = {}): string {
  const frame = framing({ ...RULES, ...rules })({ width, height });
  return frame === null ? "none" : `${sizeName(frame)} of ${sizeName(frame.scaled)}`;
}

describe("the list of sizes", () => {
  test("512 px: for width 320 the area leaves 819 pixels of height, 12 steps, and so on", () => {
    expect(names()).toEqual(
      `256x832 256x896 256x960 256x1024 320x704 320x768 384x640 448x576 512x512
       576x448 640x384 704x320 768x320 832x256 896x256 960x256 1024x256`.split(/\s+/),
    );
  });

  test("bounds cut it; the height never exceeds the upper one", () => {
    // Width 384: 682 px are 10 steps; but 576 is the bound. The square is there in any case.
    expect(names({ minSide: 384, maxSide: 576 })).toEqual([
      "384x576",
      "448x576",
      "512x512",
      "576x384",
      "576x448",
    ]);
  });

  test("only the area of the resolution counts: 768x512 has a square of 627 px, 9 steps", () => {
    const list = names({ resolution: { width: 768, height: 512 } });
    expect(list).toEqual(names({ resolution: { width: 512, height: 768 } }));
    expect(list).toContain("576x576");
    expect(list).toContain("576x640");
    expect(list).toContain("768x512");
  });

  test("is closed under turning, within bounds and area, in steps", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 4, max: 40 }),
        fc.integer({ min: 1, max: 4 }),
        fc.constantFrom(8, 16, 64),
        (side, lowest, steps) => {
          const rules = {
            resolution: { width: side * steps, height: side * steps },
            minSide: lowest * steps,
            maxSide: 2 * side * steps,
            steps,
          };
          const list = bucketSizes({ ...RULES, ...rules });
          const known = new Set(list.map(sizeName));
          const isSide = (length: number) =>
            length % steps === 0 && length >= rules.minSide && length <= rules.maxSide;
          const wrong = list.filter(
            ({ width, height }) =>
              !(known.has(sizeName({ width: height, height: width })) && isSide(width) && isSide(height)) ||
              width * height > (side * steps) ** 2,
          );
          expect(wrong).toEqual([]);
        },
      ),
    );
  });
});

describe("the bucket of an image", () => {
  // Aspect ratios of the list: 640/384 = 1.667, 576/448 = 1.286, 512/512 = 1, 448/576 = 0.778.
  test.each([
    // 4:3 = 1.333 is nearer to 1.286 (0.048) than to 1.667; wider than its bucket: 448 px high, 448 * 4 / 3 = 597.3 wide.
    [1000, 750, "576x448 of 597x448"],
    [640, 480, "576x448 of 597x448"],
    [600, 800, "448x576 of 448x597"],
    // 3:2: 0.167 to 640x384, 0.214 to 576x448; narrower: 640 px wide, 640 / 1.5 = 426.7 high.
    [3000, 2000, "640x384 of 640x427"],
    // 16:9 = 1.778: 0.111 to 640x384, 0.422 to 704x320; wider: 384 * 16 / 9 = 682.7.
    [1920, 1080, "640x384 of 683x384"],
    [1024, 1024, "512x512 of 512x512"],
    // Enlarged: 256x1024 has the least of all ratios.
    [100, 1000, "256x1024 of 256x2560"],
    // The size is in the list already, and stays although others are as near.
    [320, 768, "320x768 of 320x768"],
  ])("%d x %d", (width, height, expected) => {
    expect(frameName(width, height)).toBe(expected);
  });

  // Area of the resolution: 262144.
  test.each([
    // Small images keep their size and lose what is beyond whole steps: 4 and 7 steps.
    [300, 500, "256x448 of 300x500"],
    [64, 700, "64x640 of 64x700"],
    // 4:3 of that area is 591.2 x 443.4: both become steps, 576 -> 432 -> 384 (ratio 1.5) or 384 -> 512 (1.333, exact).
    [1000, 750, "512x384 of 512x384"],
    // 16:9: 682.7 x 384; by width 640 -> 360 -> 320 (2.0), by height 384 -> 682.7 -> 640 (1.667, nearer).
    [1920, 1080, "640x384 of 683x384"],
    // 512x513 is just too large.
    [512, 513, "512x512 of 512x513"],
    // One side is shorter than a step.
    [63, 600, "none"],
    [20000, 20, "none"],
  ])("%d x %d without upscaling", (width, height, expected) => {
    expect(frameName(width, height, { noUpscale: true })).toBe(expected);
  });

  test("the scaled image always covers its frame", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 5000 }),
        fc.integer({ min: 1, max: 5000 }),
        fc.boolean(),
        (width, height, noUpscale) => {
          const frame = framing({ ...RULES, noUpscale })({ width, height });
          if (frame === null) return;
          expect(frame.scaled.width).toBeGreaterThanOrEqual(frame.width);
          expect(frame.scaled.height).toBeGreaterThanOrEqual(frame.height);
          if (noUpscale) expect(frame.scaled.width).toBeLessThanOrEqual(width);
        },
      ),
    );
  });
});

test("bounds become multiples of the steps: the lower one downwards, the upper one upwards", () => {
  expect(adjustBounds({ minSide: 300, maxSide: 1000 }, 64)).toEqual({ minSide: 256, maxSide: 1024 });
  expect(adjustBounds({ minSide: 256, maxSide: 1024 }, 64)).toEqual({ minSide: 256, maxSide: 1024 });
});
