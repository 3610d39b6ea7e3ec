import { expect, test } from "vitest";
import type { BranchFactors } from "../denoiser/factors.js";
import type { LoraTarget } from "../models/lora-targets.js";
import { adapterKey, imageKey, NO_ADAPTER, prefixDigests, sampleKey } from "./content-keys.js";

const target = { name: "t", kind: "linear", inFeatures: 3, outFeatures: 2 } as LoraTarget;
const factors = (maxRank: number, seed = 0): BranchFactors => ({
  target,
  maxRank,
  alpha: 1,
  down: Float32Array.from({ length: maxRank * 3 }, (_, i) => i + seed),
  up: Float32Array.from({ length: maxRank * 2 }, (_, i) => -i - seed),
});

test("a prefix has the same digest from whatever file it is, and along with whatever other ranks", () => {
  const [two, four] = prefixDigests(factors(4), [2, 4]);
  expect(prefixDigests(factors(4), [1, 2, 3])[1]).toBe(two);
  expect(prefixDigests(factors(2), [2])).toEqual([two]);
  expect(prefixDigests(factors(4), [4])).toEqual([four]);
  expect(four).not.toBe(two);
  expect(prefixDigests(factors(4, 1), [2])[0]).not.toBe(two);
});

test("factors that are a part of a larger array are read from where they lie", () => {
  const { down, up } = factors(2);
  const shifted = new Float32Array(down.length + 5);
  shifted.set(down, 5);
  const part = { target, maxRank: 2, alpha: 1, down: shifted.subarray(5), up };
  expect(prefixDigests(part, [2])).toEqual(prefixDigests(factors(2), [2]));
});

test("an adapter is its modules that do something, in any order", () => {
  const a = { name: "a", rank: 2, scale: 0.5, digest: "x" };
  const b = { name: "b", rank: 4, scale: 1, digest: "y" };
  const key = adapterKey([a, b]);
  expect(adapterKey([b, a])).toBe(key);
  expect(adapterKey([a, b, { name: "c", rank: 4, scale: 0, digest: "z" }])).toBe(key);
  const others = [
    [a],
    [a, { ...b, scale: 2 }],
    [a, { ...b, rank: 2 }],
    [a, { ...b, digest: "z" }],
    [a, { ...b, name: "z" }],
  ];
  expect(new Set([key, ...others.map(adapterKey)]).size).toBe(6);
  expect(adapterKey([])).toBe(NO_ADAPTER);
  expect(adapterKey([{ ...a, scale: 0 }])).toBe(NO_ADAPTER);
});

test("everything that a sample's loss depends on is in its key", () => {
  const image = {
    key: "1_cat/a.png",
    imageSha256: "ff",
    tokens: [1, 2],
    frame: { width: 64, height: 64 },
    vae: "v",
    seed: 0,
  };
  const changed = [
    { key: "1_cat/b.png" },
    { imageSha256: "fe" },
    { tokens: [1, 3] },
    { frame: { width: 32, height: 64 } },
    { frame: { width: 64, height: 32 } },
    { frame: { width: 64, height: 64, scaled: { width: 64, height: 80 } } },
    { vae: "w" },
    { seed: 1 },
  ];
  const keys = [{}, ...changed].map((change) => imageKey({ ...image, ...change }));
  expect(new Set(keys).size).toBe(1 + changed.length);
  expect(imageKey({ ...image })).toBe(keys[0]);
  const samples = [
    { draw: 0, timestep: 5 },
    { draw: 1, timestep: 5 },
    { draw: 0, timestep: 6 },
  ].map((sample) => sampleKey(keys[0]!, sample));
  expect(new Set([...samples, sampleKey(keys[1]!, { draw: 0, timestep: 5 })]).size).toBe(4);
});
