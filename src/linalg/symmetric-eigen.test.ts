import { describe, expect, test } from "vitest";
import { multiply, norm, orthonormalityError, randomMatrix, transpose } from "../../test/helpers/matrix.js";
import { gramMatrix } from "./strips.js";
import { smallSvd } from "./svd.js";
import { eigenvalues, leadingEigen } from "./symmetric-eigen.js";
import { tridiagonalise } from "./tridiagonal.js";

/** The vectors are orthonormal, and the matrix only stretches them, by the values. */
function expectEigen(s: Float64Array, n: number, count: number): void {
  const { values, vectors } = leadingEigen(s, n, count)!;
  expect(values).toHaveLength(n);
  expect(vectors).toHaveLength(count * n);
  expect([...values]).toEqual([...values].sort((x, y) => y - x));
  const size = norm(s);
  let trace = 0;
  for (let i = 0; i < n; i++) trace += s[i * n + i]!;
  expect(Math.abs(values.reduce((sum, value) => sum + value, 0) - trace)).toBeLessThanOrEqual(
    1e-14 * n * size,
  );
  expect(Math.abs(norm(values) - size)).toBeLessThanOrEqual(1e-14 * n * size);
  if (count === 0) return;
  // 1e-12: vectors of values that are more than a thousandth of the norm apart are not made orthogonal.
  expect(orthonormalityError(vectors, count)).toBeLessThan(1e-12);
  const images = transpose(multiply(s, transpose(vectors, count), n), n);
  const rest = images.map((value, k) => value - values[Math.floor(k / n)]! * vectors[k]!);
  for (let j = 0; j < count; j++) {
    expect(norm(rest.subarray(j * n, (j + 1) * n))).toBeLessThanOrEqual(1e-15 * (n + 4) * size);
  }
}

const randomSymmetric = (n: number, seed: number) => {
  const a = randomMatrix(n, n, seed);
  return a.map((value, k) => value + a[(k % n) * n + Math.floor(k / n)]!);
};

test.each([1, 2, 3, 4, 7, 8, 9, 31, 64, 128])(
  "random, %i rows and columns, all vectors, some and none",
  (n) => {
    for (const count of [n, Math.ceil(n / 4), 0]) expectEigen(randomSymmetric(n, n), n, count);
  },
);

describe("values that are", () => {
  const n = 24;
  const orthogonal = smallSvd(randomMatrix(n, n, 1), n, n, true).rightVectors!;
  /** `Qᵀ diag(value) Q` */
  const withValues = (value: (i: number) => number) => {
    const scaled = orthogonal.map((element, k) => element * value(Math.floor(k / n)));
    return multiply(transpose(orthogonal, n), scaled, n);
  };
  const diagonal = (value: (i: number) => number) =>
    Float64Array.from({ length: n * n }, (_, k) => (k % (n + 1) === 0 ? value(k / (n + 1)) : 0));

  test.each([
    ["all 1 on a diagonal", diagonal(() => 1)],
    ["all equal", withValues(() => 3)],
    ["on a diagonal in the wrong order, with signs", diagonal((i) => (i % 2 === 0 ? -i : i))],
    ["half of them zero", withValues((i) => (i < n / 2 ? 1 + i : 0))],
    ["one and many zeros", withValues((i) => (i === 5 ? 1 : 0))],
    ["in clusters", withValues((i) => 1 + Math.floor(i / 6) + 1e-13 * i)],
    ["in clusters that are not that tight", withValues((i) => 1 + Math.floor(i / 6) + 1e-5 * i)],
    ["a little more than a thousandth apart", withValues((i) => 1 + 1.1e-3 * i)],
    ["over 23 orders of magnitude", withValues((i) => 10 ** -i)],
    ["the same the other way round", withValues((i) => 10 ** (i - n))],
    ["all zero", new Float64Array(n * n)],
  ])("%s", (_, s) => {
    for (const count of [n, 7, 1]) expectEigen(s, n, count);
  });

  test("nearly equal in pairs: Wilkinson's matrix", () => {
    const size = 21;
    const s = Float64Array.from({ length: size * size }, (_, k) => {
      const [i, j] = [Math.floor(k / size), k % size];
      return i === j ? Math.abs(i - 10) : Math.abs(i - j) === 1 ? 1 : 0;
    });
    expectEigen(s, size, 8);
    // Wilkinson, The Algebraic Eigenvalue Problem, p. 309
    const { values } = leadingEigen(s, size, 0)!;
    expect(values[0]).toBeCloseTo(10.7461941829034, 13);
    expect(values[1]).toBeCloseTo(10.7461941829033, 13);
  });
});

test("eigenvalues of a Gram matrix are squares of singular values", () => {
  const x = randomMatrix(40, 100, 5);
  const { values } = leadingEigen(gramMatrix(x, 40), 40, 0)!;
  const expected = smallSvd(x, 40, 100, false).values.map((value) => value ** 2);
  expect(norm(values.map((value, j) => value - expected[j]!))).toBeLessThan(1e-13 * norm(expected));
});

// 2 - 2 cos(k π / (n + 1)) are those of the second difference.
test("a tridiagonal matrix whose eigenvalues are known", () => {
  const n = 50;
  const values = eigenvalues(new Float64Array(n).fill(2), new Float64Array(n - 1).fill(-1))!;
  for (let k = 1; k <= n; k++) {
    expect(values[n - k]).toBeCloseTo(2 - 2 * Math.cos((k * Math.PI) / (n + 1)), 14);
  }
});

test("a tridiagonal matrix stays what it is but for signs", () => {
  const n = 9;
  const s = Float64Array.from({ length: n * n }, (_, k) => {
    const distance = Math.abs(Math.floor(k / n) - (k % n));
    return distance === 0 ? k + 1 : distance === 1 ? 2 : 0;
  });
  const { diagonal, offDiagonal } = tridiagonalise(s, n);
  for (let i = 0; i < n; i++) expect(diagonal[i]).toBeCloseTo(s[i * n + i]!, 12);
  for (const value of offDiagonal) expect(Math.abs(value)).toBeCloseTo(2, 14);
});

test("what is not finite has no values", () => {
  expect(leadingEigen(Float64Array.of(1, Number.NaN, Number.NaN, 1), 2, 1)).toBeNull();
  expect(leadingEigen(Float64Array.of(Number.POSITIVE_INFINITY, 0, 0, 1), 2, 1)).toBeNull();
});
