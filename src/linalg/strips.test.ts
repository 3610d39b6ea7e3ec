import { describe, expect, test } from "vitest";
import { multiply, randomMatrix, relativeDifference, transpose } from "../../test/helpers/matrix.js";
import { combineRows, combineRowsTo, combineRowsToFloat32, crossProducts, gramMatrix } from "./strips.js";

/** Rows and columns around the kernels' tiles (4 x 2, 4 x 4), vectors (2) and strips (256). */
const SHAPES: [rows: number, columns: number][] = [
  [1, 1],
  [1, 255],
  [3, 257],
  [4, 256],
  [5, 7],
  [17, 512],
  [130, 515],
];

describe.each(SHAPES)("%i x %i", (rows, columns) => {
  const x = randomMatrix(rows, columns, 1);

  test("the Gram matrix is the product with the transposed matrix, both triangles", () => {
    expect(relativeDifference(gramMatrix(x, rows), multiply(x, transpose(x, rows), rows))).toBeLessThan(
      1e-14,
    );
  });

  test("products with the rows of another matrix", () => {
    const others = rows + 3;
    const y = randomMatrix(others, columns, 2);
    const expected = multiply(x, transpose(y, others), rows);
    expect(relativeDifference(crossProducts(x, rows, y, others), expected)).toBeLessThan(1e-14);
  });

  test.each([1, 4, 6])("%i combinations of its rows", (count) => {
    const coefficients = randomMatrix(count, rows, 3);
    const expected = multiply(coefficients, x, count);
    expect(relativeDifference(combineRows(coefficients, count, x, rows), expected)).toBeLessThan(1e-14);
    expect(combineRowsToFloat32(coefficients, count, x, rows)).toEqual(
      Float32Array.from(combineRows(coefficients, count, x, rows)),
    );
  });

  test("a float32 matrix gives what its float64 copy gives", () => {
    const single = Float32Array.from(x);
    expect(gramMatrix(single, rows)).toEqual(gramMatrix(Float64Array.from(single), rows));
  });
});

/** Larger than what is copied into the workspace as a whole, and so are its combinations. */
test("a matrix of 5 MB", () => {
  const [rows, columns] = [3, 420_001];
  const x = Float32Array.from(randomMatrix(rows, columns, 1));
  const double = Float64Array.from(x);
  expect(gramMatrix(x, rows)).toEqual(gramMatrix(double, rows));
  // 1e-12: the obvious way adds up 420,001 numbers one after the other.
  expect(
    relativeDifference(gramMatrix(x, rows), multiply(double, transpose(double, rows), rows)),
  ).toBeLessThan(1e-12);
  const coefficients = randomMatrix(2, rows, 3);
  const expected = multiply(coefficients, double, 2);
  expect(relativeDifference(combineRows(coefficients, 2, x, rows), expected)).toBeLessThan(1e-14);
  const stored = combineRowsTo("F32", Float64Array.of(...coefficients, 0, 0, 0), 3, x, rows, {
    byColumns: true,
  }).bytes;
  const turned = new Float32Array(stored.buffer);
  const same = combineRowsToFloat32(coefficients, 2, x, rows);
  for (const j of [0, 1, 255, 256, 300_000, columns - 1]) {
    expect([turned[j * 3], turned[j * 3 + 1]]).toEqual([same[j], same[columns + j]]);
  }
});

describe("triangles", () => {
  test.each([1, 3, 4, 7, 8, 30, 128, 258, 300])("%i rows and columns", (n) => {
    const lower = randomMatrix(n, n, 5).map((value, k) => (k % n > Math.floor(k / n) ? 0 : value));
    const other = randomMatrix(n, n, 6);
    expect(
      relativeDifference(combineRows(other, n, lower, n, "x is lower"), combineRows(other, n, lower, n)),
    ).toBeLessThan(1e-15);
    expect(
      relativeDifference(
        combineRows(lower, n, other, n, "coefficients are transposed lower"),
        combineRows(transpose(lower, n), n, other, n),
      ),
    ).toBeLessThan(1e-15);
  });
});
