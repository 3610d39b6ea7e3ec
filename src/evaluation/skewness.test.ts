import { expect, test } from "vitest";
import { skewedQuantile, skewness } from "./skewness.js";

test.each([
  [[0, 0, 0, 1], 2 / Math.sqrt(3)],
  [[1, 2, 3, 4], 0],
  [[0, -1, -1, -1, -1], 1.5],
] as const)("skewness of %j", (values, expected) => {
  const center = values.reduce<number>((sum, value) => sum + value, 0) / values.length;
  expect(skewness(Float64Array.from(values), center)).toBeCloseTo(expected, 12);
});

/** Hall 1992, as it is printed. */
const transformed = (t: number, gamma: number, n: number) =>
  t + (gamma * t ** 2) / 3 / Math.sqrt(n) + (gamma ** 2 * t ** 3) / 27 / n + gamma / 6 / Math.sqrt(n);

test.each([
  [2.4, 1.1, 8],
  [-2.4, 1.1, 8],
  [-3.5, 2.2, 7],
  [3.5, -2.2, 7],
  [1.96, 1e-7, 400],
])("the quantile %d of skewness %d and %d values is what the transformation makes it of", (x, gamma, n) => {
  expect(transformed(skewedQuantile(x, gamma, n), gamma, n)).toBeCloseTo(x, 7);
});

test("without skewness nothing changes", () => {
  expect(skewedQuantile(2.3, 0, 10)).toBe(2.3);
  expect(skewedQuantile(2.3, 1e-6, 10)).toBeCloseTo(2.3, 5);
});
