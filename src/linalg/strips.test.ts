import { describe, expect, test } from "vitest";
import { multiply, randomMatrix, relativeDifference, transpose } from "../../test/helpers/matrix.js";
import { combineRows, combineRowsToFloat32, crossProducts, gramMatrix } from "./strips.js";

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
