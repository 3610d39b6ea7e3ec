import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DyloraError } from "../../errors.js";
import { clipScale, GradientAccumulator } from "./gradients.js";

/** Rows `begin` to `end` of width 2, every element `value`. */
const rows = (begin: number, end: number, value: number) =>
  [{ begin, end }, new Float32Array((end - begin) * 2).fill(value)] as const;

const summary = (accumulator: GradientAccumulator, factor = 0) =>
  accumulator
    .touched(factor)
    .map(({ rows, gradient }) => [rows.begin, rows.end, [...gradient].filter((_, i) => i % 2 === 0)]);

describe("GradientAccumulator", () => {
  it("hands a single gradient on as it is, without a copy", () => {
    const accumulator = new GradientAccumulator([2, 2]);
    const [range, gradient] = rows(0, 3, 1);
    accumulator.add(0, range, gradient);
    expect(accumulator.touched(0)[0]!.gradient).toBe(gradient);
    expect(accumulator.touched(1)).toEqual([]);
  });

  it("adds up prefixes of different ranks", () => {
    const accumulator = new GradientAccumulator([2]);
    accumulator.add(0, ...rows(0, 2, 1));
    accumulator.add(0, ...rows(0, 4, 10));
    accumulator.add(0, ...rows(0, 1, 100));
    expect(summary(accumulator)).toEqual([[0, 4, [111, 11, 10, 10]]]);
  });

  it("keeps separate blocks separate and in order, and joins them when a range covers both", () => {
    const accumulator = new GradientAccumulator([2]);
    accumulator.add(0, ...rows(6, 8, 1));
    accumulator.add(0, ...rows(0, 2, 10));
    accumulator.add(0, ...rows(2, 4, 1000));
    expect(summary(accumulator)).toEqual([
      [0, 2, [10, 10]],
      [2, 4, [1000, 1000]],
      [6, 8, [1, 1]],
    ]);
    accumulator.add(0, ...rows(3, 7, 100));
    expect(summary(accumulator)).toEqual([
      [0, 2, [10, 10]],
      [2, 8, [1000, 1100, 100, 100, 101, 1]],
    ]);
  });

  it("equals a plain sum over all components for any order of ranges", () => {
    const range = fc.tuple(fc.nat(9), fc.integer({ min: 1, max: 5 }), fc.integer({ min: -9, max: 9 }));
    fc.assert(
      fc.property(fc.array(range, { maxLength: 8 }), (ranges) => {
        const accumulator = new GradientAccumulator([2]);
        const sums = new Map<number, number>();
        for (const [begin, count, value] of ranges) {
          accumulator.add(0, ...rows(begin, begin + count, value));
          for (let row = begin; row < begin + count; row++) sums.set(row, (sums.get(row) ?? 0) + value);
        }
        const found = new Map<number, number>();
        for (const { rows, gradient } of accumulator.touched(0)) {
          for (let row = rows.begin; row < rows.end; row++) {
            expect(found.has(row)).toBe(false);
            expect(gradient[2 * (row - rows.begin)]).toBe(gradient[2 * (row - rows.begin) + 1]);
            found.set(row, gradient[2 * (row - rows.begin)]!);
          }
        }
        expect([...found].sort(([a], [b]) => a - b)).toEqual([...sums].sort(([a], [b]) => a - b));
      }),
    );
  });

  it("forgets on reset", () => {
    const accumulator = new GradientAccumulator([2]);
    accumulator.add(0, ...rows(0, 2, 1));
    accumulator.reset();
    expect(accumulator.touched(0)).toEqual([]);
    expect(accumulator.norm(1)).toBe(0);
  });

  it("refuses a gradient that does not fit its components", () => {
    const accumulator = new GradientAccumulator([2]);
    expect(() => accumulator.add(0, { begin: 0, end: 3 }, new Float32Array(4))).toThrow(DyloraError);
    expect(() => accumulator.add(1, { begin: 0, end: 2 }, new Float32Array(4))).toThrow(/factor 1/);
  });
});

describe("clipping", () => {
  it("takes the norm over all factors and scales as torch does", () => {
    // torch 1.13: clip_grad_norm_ of (3, -4, 12) and (84, 0) with max_norm 17 returns 85 and leaves (0.6, …), (16.8, 0).
    const accumulator = new GradientAccumulator([3, 2]);
    accumulator.add(0, { begin: 0, end: 1 }, Float32Array.of(3, -4, 12));
    accumulator.add(1, { begin: 0, end: 1 }, Float32Array.of(84, 0));
    expect(accumulator.norm(1)).toBe(85);
    const scale = clipScale(85, 17);
    expect(3 * scale).toBeCloseTo(0.600000024, 6);
    expect(84 * scale).toBeCloseTo(16.800001144, 5);
  });

  it("measures the mean over micro-steps, not the sum", () => {
    const accumulator = new GradientAccumulator([2]);
    accumulator.add(0, { begin: 0, end: 1 }, Float32Array.of(3, 0));
    accumulator.add(0, { begin: 0, end: 2 }, Float32Array.of(3, 0, 0, 8));
    expect(accumulator.norm(1 / 2)).toBe(5);
  });

  it("leaves small gradients alone, and all of them when it is off", () => {
    expect(clipScale(0.5, 1)).toBe(1);
    expect(clipScale(0, 1)).toBe(1);
    expect(clipScale(1e9, 0)).toBe(1);
  });

  it("shows a gradient that is not finite", () => {
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const accumulator = new GradientAccumulator([2]);
      accumulator.add(0, { begin: 0, end: 1 }, Float32Array.of(1, value));
      expect(Number.isFinite(accumulator.norm(1))).toBe(false);
    }
  });
});
