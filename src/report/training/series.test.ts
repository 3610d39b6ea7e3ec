import { expect, test } from "vitest";
import { bands, median, quantile, thinned } from "./series.js";

test("thinning keeps the last point and at most as many as asked", () => {
  const points = Array.from({ length: 1000 }, (_, index) => index);
  expect(thinned(points, 2000)).toEqual(points);
  const few = thinned(points, 300);
  expect(few.length).toBeLessThanOrEqual(300);
  expect(few.at(-1)).toBe(999);
  expect(new Set(few.map((point, index) => (index === 0 ? 4 : point - few[index - 1]!)))).toEqual(
    new Set([4]),
  );
});

test("quantiles interpolate between neighbours", () => {
  expect(quantile([1, 2, 3, 4, 5], 0.5)).toBe(3);
  expect(quantile([0, 10], 0.25)).toBe(2.5);
  expect(quantile([7], 0.9)).toBe(7);
  expect(median([9, 1, 5])).toBe(5);
});

test("a band holds 80 % of its steps", () => {
  // 0 to 99 in another order: 37 and 100 have no common factor.
  const points = Array.from({ length: 200 }, (_, index) => ({ step: index + 1, value: (index * 37) % 100 }));
  const found = bands(points, 2);
  expect(found).toEqual([
    { step: 50.5, low: expect.closeTo(9.9), high: expect.closeTo(89.1) },
    { step: 150.5, low: expect.closeTo(9.9), high: expect.closeTo(89.1) },
  ]);
});
