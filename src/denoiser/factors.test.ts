import { describe, expect, test } from "vitest";
import type { LoraTarget } from "../models/lora-targets.js";
import { type BranchFactors, branchFeeds, downShape, downWidth, upWidth } from "./factors.js";

const target = (kind: LoraTarget["kind"]): LoraTarget => ({
  name: `lora_unet_${kind}`,
  path: kind,
  component: "unet",
  kind,
  inFeatures: 2,
  outFeatures: 3,
  stride: 1,
});

/** Component `i` of `down` is filled with `i + 1`, of `up` with `-(i + 1)`. */
function factors(kind: LoraTarget["kind"], maxRank: number): BranchFactors {
  const rows = (width: number, sign: number) =>
    Float32Array.from({ length: maxRank * width }, (_, i) => sign * (Math.floor(i / width) + 1));
  const module = target(kind);
  return {
    target: module,
    maxRank,
    alpha: 4,
    down: rows(downWidth(module), 1),
    up: rows(upWidth(module), -1),
  };
}

describe("branchFeeds", () => {
  test("feeds the first components of both factors, without copying them", () => {
    const module = factors("linear", 4);
    const feeds = branchFeeds([{ factors: module, rank: 2, scale: 0.5 }]);
    const down = feeds["lora_unet_linear.lora_down"]!;
    const up = feeds["lora_unet_linear.lora_up"]!;
    expect(down).toMatchObject({ shape: [2, 2], data: Float32Array.of(1, 1, 2, 2) });
    expect(up).toMatchObject({ shape: [2, 3], data: Float32Array.of(-1, -1, -1, -2, -2, -2) });
    expect(down.data.buffer).toBe(module.down.buffer);
    expect(up.data.buffer).toBe(module.up.buffer);
    expect(feeds["lora_unet_linear.scale"]).toMatchObject({ shape: [], data: Float32Array.of(0.5) });
  });

  test("a 3x3 convolution keeps its kernel behind the rank", () => {
    expect(downWidth(target("conv3x3"))).toBe(18);
    expect(downShape(target("conv3x3"))).toEqual([2, 3, 3]);
    const feeds = branchFeeds([{ factors: factors("conv3x3", 3), rank: 3, scale: 1 }]);
    expect(feeds["lora_unet_conv3x3.lora_down"]).toMatchObject({ shape: [3, 2, 3, 3] });
    expect(feeds["lora_unet_conv3x3.lora_up"]).toMatchObject({ shape: [3, 3] });
  });

  test("rank 0 is one component without strength, whatever the scale says", () => {
    const feeds = branchFeeds([{ factors: factors("linear", 2), rank: 0, scale: 3 }]);
    expect(feeds["lora_unet_linear.lora_down"]).toMatchObject({ shape: [1, 2] });
    expect(feeds["lora_unet_linear.scale"]).toMatchObject({ data: Float32Array.of(0) });
  });

  test("a rank above the factors' is a defect", () => {
    expect(() => branchFeeds([{ factors: factors("linear", 2), rank: 3, scale: 1 }])).toThrow(/rank 3 of 2/);
  });
});
