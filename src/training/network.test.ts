import { describe, expect, test } from "vitest";
import { downWidth, upWidth } from "../denoiser/factors.js";
import type { LoraTarget } from "../models/lora-targets.js";
import { freshModule, freshNetwork, parameterCount, sizeOf } from "./network.js";

const linear: LoraTarget = {
  name: "lora_unet_a",
  path: "a",
  component: "unet",
  kind: "linear",
  inFeatures: 400,
  outFeatures: 5,
  stride: 1,
};
const conv: LoraTarget = { ...linear, name: "lora_unet_b", kind: "conv3x3", inFeatures: 4 };
const sizes = { rank: 8, alpha: 4, convRank: 2, convAlpha: 1 };

describe("freshModule", () => {
  const module = freshModule(linear, 8, 4, 1);

  test("changes nothing yet: up is zero", () => {
    expect(module.up).toEqual(new Float32Array(8 * upWidth(linear)));
  });

  test("down is uniform within 1 / sqrt(inputs)", () => {
    const bound = 1 / Math.sqrt(downWidth(linear));
    expect(Math.max(...module.down)).toBeLessThanOrEqual(bound);
    expect(Math.min(...module.down)).toBeGreaterThanOrEqual(-bound);
    // A uniform variable in [-b, b] has the variance b^2 / 3; 3200 of them show it to a few percent.
    const variance = module.down.reduce((sum, value) => sum + value * value, 0) / module.down.length;
    expect(variance / (bound ** 2 / 3)).toBeCloseTo(1, 1);
  });

  test("a component starts the same whatever the rank of the whole", () => {
    const larger = freshModule(linear, 16, 4, 1);
    expect(larger.down.subarray(0, module.down.length)).toEqual(module.down);
  });

  test("components, modules and seeds differ", () => {
    const width = downWidth(linear);
    const first = (down: Float32Array) => [...down.subarray(0, 3)];
    expect(first(module.down.subarray(width))).not.toEqual(first(module.down));
    expect(first(freshModule({ ...linear, name: "lora_unet_c" }, 8, 4, 1).down)).not.toEqual(
      first(module.down),
    );
    expect(first(freshModule(linear, 8, 4, 2).down)).not.toEqual(first(module.down));
  });
});

test("3x3 convolutions have sizes of their own, and those of the rest where they are given none", () => {
  expect(sizeOf(linear, sizes)).toEqual({ rank: 8, alpha: 4 });
  expect(sizeOf(conv, sizes)).toEqual({ rank: 2, alpha: 1 });
  expect(sizeOf(conv, { ...sizes, convRank: null, convAlpha: null })).toEqual({ rank: 8, alpha: 4 });
  // A 1x1 convolution counts as a Linear layer, as in sd-scripts.
  expect(sizeOf({ ...conv, kind: "conv1x1" }, sizes)).toEqual({ rank: 8, alpha: 4 });
});

test("every number that is trained is counted", () => {
  const network = freshNetwork([linear, conv], sizes, 1);
  expect(network.map(({ maxRank }) => maxRank)).toEqual([8, 2]);
  expect(parameterCount(network)).toBe(8 * (400 + 5) + 2 * (4 * 9 + 5));
});
