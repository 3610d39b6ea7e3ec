import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type EnergyMethod, fixedRank, rankByEnergy } from "./rank-rules.js";

const by = (method: EnergyMethod, param: number, values: number[], maxRank?: number) =>
  rankByEnergy(
    { kind: "energy", method, param, ...(maxRank === undefined ? {} : { maxRank }) },
    Float64Array.from(values),
  );

describe("by their definitions", () => {
  // Sums 4, 6, 7, 8; squares 16, 20, 21, 22.
  const values = [4, 2, 1, 1];
  test.each<[EnergyMethod, number, number]>([
    ["sv_cumulative", 0.5, 1],
    ["sv_cumulative", 0.51, 2],
    ["sv_cumulative", 0.75, 2],
    ["sv_cumulative", 0.875, 3],
    ["sv_cumulative", 0.88, 4],
    ["sv_cumulative", 1, 4],
    ["sv_fro", Math.sqrt(16 / 22) - 1e-12, 1],
    ["sv_fro", Math.sqrt(16 / 22) + 1e-12, 2],
    ["sv_fro", Math.sqrt(20 / 22) + 1e-12, 3],
    ["sv_fro", 1, 4],
    ["sv_ratio", 1, 1],
    ["sv_ratio", 1.9, 1],
    ["sv_ratio", 2, 2],
    ["sv_ratio", 4, 4],
    ["sv_ratio", 100, 4],
  ])("%s %d keeps %i", (method, param, rank) => expect(by(method, param, values)).toBe(rank));

  test("a maximum caps the rank", () => {
    expect(by("sv_cumulative", 1, values, 3)).toBe(3);
    expect(by("sv_cumulative", 0.5, values, 3)).toBe(1);
  });

  test("a product of zeros keeps one component", () => {
    for (const method of ["sv_cumulative", "sv_fro", "sv_ratio"] as const) {
      expect(by(method, 1, [0, 0, 0])).toBe(1);
    }
  });

  test("components of zero are left out even at 1", () => {
    expect(by("sv_fro", 1, [3, 1, 0, 0])).toBe(2);
    expect(by("sv_cumulative", 1, [3, 1, 0, 0])).toBe(2);
  });
});

const descending = fc
  .array(fc.double({ min: 0, max: 1e3, noNaN: true }), { minLength: 1, maxLength: 40 })
  .map((values) => values.sort((a, b) => b - a));

test("the rank is the smallest one that satisfies the definition", () => {
  fc.assert(
    fc.property(descending, fc.double({ min: 0.01, max: 1, noNaN: true }), (values, share) => {
      const rank = by("sv_cumulative", share, values);
      const sum = (count: number) => values.slice(0, count).reduce((a, b) => a + b, 0);
      const wanted = share * sum(values.length);
      expect(sum(rank)).toBeGreaterThanOrEqual(wanted);
      if (rank > 1) expect(sum(rank - 1)).toBeLessThan(wanted);
    }),
  );
});

test("sv_fro p loses at most sqrt(1 - p²)", () => {
  fc.assert(
    fc.property(descending, fc.double({ min: 0.01, max: 1, noNaN: true }), (values, share) => {
      const rank = by("sv_fro", share, values);
      const energy = (part: number[]) => part.reduce((sum, value) => sum + value ** 2, 0);
      const lost = energy(values.slice(rank));
      expect(lost).toBeLessThanOrEqual((1 - share ** 2 + 1e-12) * energy(values));
    }),
  );
});

test("a fixed rank: 3x3 convolutions may have their own, and no module gets more than it has", () => {
  const rule = { kind: "rank", rank: 8, convRank: 2 } as const;
  expect(fixedRank(rule, { kind: "linear", rank: 16 })).toBe(8);
  expect(fixedRank(rule, { kind: "conv1x1", rank: 16 })).toBe(8);
  expect(fixedRank(rule, { kind: "conv3x3", rank: 16 })).toBe(2);
  expect(fixedRank(rule, { kind: "linear", rank: 4 })).toBe(4);
  expect(fixedRank({ kind: "rank", rank: 8 }, { kind: "conv3x3", rank: 16 })).toBe(8);
});
