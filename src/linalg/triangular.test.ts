import { describe, expect, test } from "vitest";
import {
  multiply,
  orthonormalityError,
  randomMatrix,
  relativeDifference,
  transpose,
} from "../../test/helpers/matrix.js";
import { lqDecomposition } from "./householder.js";
import { gramMatrix } from "./strips.js";
import { cholesky, invertLower } from "./triangular.js";

const isLowerTriangular = (l: Float64Array, columns: number) =>
  l.every((value, k) => k % columns <= Math.floor(k / columns) || value === 0);

describe.each([1, 2, 7, 8, 9, 33, 128])("%i x %i", (n) => {
  const s = gramMatrix(randomMatrix(n, 3 * n + 5, n), n);

  test("Cholesky: L Lᵀ is the matrix", () => {
    const l = cholesky(s, n)!;
    expect(isLowerTriangular(l, n)).toBe(true);
    expect(relativeDifference(multiply(l, transpose(l, n), n), s)).toBeLessThan(1e-14);
  });

  test("the inverse of L", () => {
    const l = cholesky(s, n)!;
    const inverse = invertLower(l, n);
    expect(isLowerTriangular(inverse, n)).toBe(true);
    const identity = Float64Array.from({ length: n * n }, (_, k) => (k % (n + 1) === 0 ? 1 : 0));
    expect(relativeDifference(multiply(inverse, l, n), identity)).toBeLessThan(1e-13);
  });
});

test("Cholesky refuses what is not positive definite", () => {
  expect(cholesky(Float64Array.of(1, 2, 2, 1), 2)).toBeNull();
  expect(cholesky(new Float64Array(9), 3)).toBeNull();
  expect(cholesky(Float64Array.of(1, Number.NaN, Number.NaN, 1), 2)).toBeNull();
});

describe.each([
  [1, 1],
  [1, 9],
  [3, 3],
  [5, 21],
  [21, 5],
  [64, 300],
])("LQ of %i x %i", (rows, columns) => {
  const inner = Math.min(rows, columns);
  const withDuplicates = randomMatrix(rows, columns, 4);
  withDuplicates.copyWithin(0, (rows - 1) * columns);
  test.each([
    ["random", randomMatrix(rows, columns, 3)],
    ["rows that repeat", withDuplicates],
    ["badly scaled rows", randomMatrix(rows, columns, 5).map((v, k) => v * 10 ** -Math.floor(k / columns))],
  ])("%s: L Q is the matrix, and the rows of Q are orthonormal", (_, x) => {
    const { l, q, innerRank } = lqDecomposition(x, rows, true);
    expect(innerRank).toBe(inner);
    expect(isLowerTriangular(l, inner)).toBe(true);
    expect(orthonormalityError(q!, inner)).toBeLessThan(1e-13);
    expect(relativeDifference(multiply(l, q!, rows), x)).toBeLessThan(1e-14);
    expect(lqDecomposition(x, rows, false)).toEqual({ l, q: null, innerRank });
  });

  test("zeros", () => {
    const { l, q } = lqDecomposition(new Float64Array(rows * columns), rows, true);
    expect(l.every((value) => value === 0)).toBe(true);
    expect(orthonormalityError(q!, inner)).toBe(0);
  });
});
