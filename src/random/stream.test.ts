import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DyloraError } from "../errors.js";
import { randomStream } from "./stream.js";

const draws = (n: number, next: () => number): number[] => Array.from({ length: n }, next);
const mean = (values: readonly number[]): number => values.reduce((sum, v) => sum + v, 0) / values.length;

describe("randomStream", () => {
  it("gives the values it has always given (an old run must resume under a new version)", () => {
    const stream = randomStream(0, "golden");
    expect([stream.uniform(), stream.uniform()]).toEqual([0.8422288692663942, 0.8296836828178801]);
    expect([stream.int(10), stream.int(1_000_000)]).toEqual([3, 610912]);
    expect([stream.normal(), stream.normal()]).toEqual([-1.015219116813174, -2.349219530115485]);
    expect(stream.shuffle([0, 1, 2, 3, 4, 5, 6, 7])).toEqual([2, 3, 6, 0, 4, 1, 7, 5]);
    expect([...stream.fillNormal(new Float32Array(4))]).toEqual([
      2.042510509490967, -0.3580159544944763, 0.5827021598815918, -1.1110092401504517,
    ]);
  });

  it("repeats for the same seed and key, and differs in every draw for another one", () => {
    const key = ["noise", 3, 0, 1] as const;
    const sequence = (seed: number, ...k: (string | number)[]) => {
      const stream = randomStream(seed, ...k);
      return draws(8, () => stream.uniform());
    };
    const reference = sequence(42, ...key);
    expect(sequence(42, ...key)).toEqual(reference);
    for (const other of [
      sequence(43, ...key),
      sequence(42, "timestep", 3, 0, 1),
      sequence(42, "noise", 4, 0, 1),
      sequence(42, "noise", 3, 1, 0),
      sequence(42, "noise", 3, 0, "1"),
      sequence(42, "noise", 3, 0),
      sequence(42, "noise", 30, 1),
    ]) {
      for (const [i, value] of other.entries()) expect(value).not.toBe(reference[i]);
    }
  });

  it("does not correlate between neighbouring keys", () => {
    const n = 20_000;
    const at = (seed: number, key: number) => randomStream(seed, "noise", key).normal();
    // The correlation of n independent pairs has a standard deviation of 1 / sqrt(n) = 0.007; 4 of them are allowed.
    const bySample = mean(draws(n, () => 0).map((_, i) => at(7, i) * at(7, i + 1)));
    const bySeed = mean(draws(n, () => 0).map((_, i) => at(i, 0) * at(i + 1, 0)));
    expect(Math.abs(bySample)).toBeLessThan(0.028);
    expect(Math.abs(bySeed)).toBeLessThan(0.028);
  });

  it("refuses a seed or key that has no unique name", () => {
    expect(() => randomStream(Number.NaN, "noise")).toThrow(DyloraError);
    expect(() => randomStream(1, "noise", Number.POSITIVE_INFINITY)).toThrow(/finite/);
  });
});

describe("RandomStream", () => {
  it("uniform: in [0, 1), 53 bits, flat", () => {
    const stream = randomStream(1, "uniform");
    const values = draws(100_000, () => stream.uniform());
    expect(Math.min(...values.slice(0, 50_000))).toBeGreaterThanOrEqual(0);
    expect(Math.max(...values.slice(0, 50_000))).toBeLessThan(1);
    for (const value of values.slice(0, 100)) expect(Number.isInteger(value * 2 ** 53)).toBe(true);
    expect(values.some((value) => !Number.isInteger(value * 2 ** 52))).toBe(true);
    const bins = new Array<number>(10).fill(0);
    for (const value of values) bins[Math.floor(value * 10)]! += 1;
    // Chi-square with 9 degrees of freedom: 33.7 is exceeded once in 10,000.
    const chiSquare = bins.reduce((sum, count) => sum + (count - 10_000) ** 2 / 10_000, 0);
    expect(chiSquare).toBeLessThan(33.7);
  });

  it("int: every value equally often, also for n that does not divide 2^32", () => {
    const stream = randomStream(1, "int");
    const counts = new Array<number>(7).fill(0);
    for (let i = 0; i < 70_000; i++) counts[stream.int(7)]! += 1;
    // Chi-square with 6 degrees of freedom: 27.9 is exceeded once in 10,000.
    expect(counts.reduce((sum, count) => sum + (count - 10_000) ** 2 / 10_000, 0)).toBeLessThan(27.9);
    // 3/4 of 2^32: a plain modulo would give the lowest third twice as often as the rest.
    const n = 3 * 2 ** 30;
    const low = draws(30_000, () => stream.int(n)).filter((value) => value < 2 ** 30).length;
    expect(Math.abs(low / 30_000 - 1 / 3)).toBeLessThan(0.011);
  });

  it("int: stays in range and refuses what is no count", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2 ** 32 }), fc.integer(), (n, seed) => {
        const value = randomStream(seed, "range").int(n);
        return Number.isInteger(value) && value >= 0 && value < n;
      }),
    );
    const stream = randomStream(1, "int");
    expect(stream.int(1)).toBe(0);
    for (const n of [0, -1, 1.5, 2 ** 32 + 1, Number.NaN]) expect(() => stream.int(n)).toThrow(/2\^32/);
  });

  it("normal: the moments and tails of a standard normal", () => {
    const n = 200_000;
    const values = [...randomStream(5, "normal").fillNormal(new Float32Array(n))];
    const moment = (k: number) => mean(values.map((value) => value ** k));
    // Four standard errors: sqrt(Var(x^k) / n) with Var = 1, 2, 15, 96.
    expect(Math.abs(moment(1))).toBeLessThan(4 * Math.sqrt(1 / n));
    expect(Math.abs(moment(2) - 1)).toBeLessThan(4 * Math.sqrt(2 / n));
    expect(Math.abs(moment(3))).toBeLessThan(4 * Math.sqrt(15 / n));
    expect(Math.abs(moment(4) - 3)).toBeLessThan(4 * Math.sqrt(96 / n));
    expect(values.filter((value) => Math.abs(value) > 1.959964).length / n).toBeCloseTo(0.05, 2);
    expect(mean(values.slice(1).map((value, i) => value * values[i]!))).toBeCloseTo(0, 2);
  });

  it("fillNormal: the same numbers as single draws, odd lengths included", () => {
    const filled = randomStream(5, "fill");
    const single = randomStream(5, "fill");
    for (const length of [1, 3, 4]) {
      expect(filled.fillNormal(new Float32Array(length))).toEqual(
        Float32Array.from(draws(length, () => single.normal())),
      );
    }
  });

  it("fillNormal: cheap enough to draw the noise of a step on the main thread", () => {
    const latents = new Float32Array(4 * 64 * 64);
    for (let i = 0; i < 20; i++) randomStream(1, "warm", i).fillNormal(latents);
    const start = performance.now();
    for (let i = 0; i < 10; i++) randomStream(1, "timed", i).fillNormal(latents);
    // 0.65 ms each on the machine it was written on; the bound leaves room for a loaded one.
    expect((performance.now() - start) / 10).toBeLessThan(20);
  });

  it("shuffle: a permutation, the input untouched, all orders equally likely", () => {
    const items = ["a", "b", "c"] as const;
    const counts = new Map<string, number>();
    const stream = randomStream(9, "shuffle");
    for (let i = 0; i < 12_000; i++) {
      const order = stream.shuffle(items).join("");
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    expect(items).toEqual(["a", "b", "c"]);
    expect([...counts.keys()].sort()).toEqual(["abc", "acb", "bac", "bca", "cab", "cba"]);
    // Chi-square with 5 degrees of freedom: 25.7 is exceeded once in 10,000.
    expect([...counts.values()].reduce((sum, count) => sum + (count - 2000) ** 2 / 2000, 0)).toBeLessThan(
      25.7,
    );
    expect(stream.shuffle([])).toEqual([]);
  });
});
