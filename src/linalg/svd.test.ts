import { describe, expect, test } from "vitest";
import {
  formulaMatrix,
  multiply,
  norm,
  orthonormalityError,
  randomMatrix,
  transpose,
} from "../../test/helpers/matrix.js";
import { smallSvd } from "./svd.js";

/**
 * What must hold of values and right vectors: the vectors are orthonormal, and the matrix turns them into orthogonal ones
 * whose lengths are the values.
 */
function expectSvd(a: Float64Array, rows: number, columns: number): void {
  const { values, rightVectors } = smallSvd(a, rows, columns, true);
  const count = Math.min(rows, columns);
  expect(values).toHaveLength(count);
  expect([...values]).toEqual([...values].sort((x, y) => y - x));
  const largest = values[0]!;
  const tolerance = 1e-14 * Math.max(rows, columns);
  // A wide matrix of low rank leaves open which vectors belong to zero.
  expect(orthonormalityError(rightVectors!, count)).toBeLessThan(tolerance);
  const images = transpose(multiply(a, transpose(rightVectors!, count), rows), rows);
  const gram = multiply(images, transpose(images, count), count);
  for (let j = 0; j < count; j++) {
    expect(Math.abs(norm(images.subarray(j * rows, (j + 1) * rows)) - values[j]!)).toBeLessThan(
      tolerance * largest,
    );
    gram[j * count + j] = 0;
  }
  expect(norm(gram)).toBeLessThanOrEqual(tolerance * largest * norm(a));
  expect(Math.abs(norm(values) - norm(a))).toBeLessThanOrEqual(tolerance * largest);
  const alone = smallSvd(a, rows, columns, false);
  expect(alone.rightVectors).toBeNull();
  for (const [j, value] of alone.values.entries())
    expect(Math.abs(value - values[j]!)).toBeLessThanOrEqual(tolerance * largest);
}

describe("values and right vectors", () => {
  test.each([1, 2, 3, 7, 8, 9, 31, 64, 128])("random, %i rows and columns", (n) =>
    expectSvd(randomMatrix(n, n, n), n, n),
  );

  test.each([
    [3, 8],
    [8, 3],
    [1, 12],
    [12, 1],
    [20, 33],
  ])("random, %i x %i", (rows, columns) => expectSvd(randomMatrix(rows, columns, 9), rows, columns));

  const n = 24;
  const diagonal = (value: (i: number) => number) =>
    Float64Array.from({ length: n * n }, (_, k) => (k % (n + 1) === 0 ? value(k / (n + 1)) : 0));
  const mixed = (d: Float64Array) => multiply(multiply(orthogonal(1), d, n), orthogonal(2), n);
  const orthogonal = (seed: number) => smallSvd(randomMatrix(n, n, seed), n, n, true).rightVectors!;
  test.each([
    ["the identity", diagonal(() => 1)],
    ["a diagonal in the wrong order, with signs", diagonal((i) => (i % 2 === 0 ? -i : i))],
    ["equal values", mixed(diagonal(() => 3))],
    ["half of the values zero", mixed(diagonal((i) => (i < n / 2 ? 1 + i : 0)))],
    ["rank 1", mixed(diagonal((i) => (i === 5 ? 1 : 0)))],
    ["values over 23 orders of magnitude", mixed(diagonal((i) => 10 ** -i))],
    ["the same the other way round", mixed(diagonal((i) => 10 ** (i - n)))],
    ["clusters", mixed(diagonal((i) => 1 + Math.floor(i / 6) + 1e-13 * i))],
    ["upper bidiagonal with zeros on the diagonal", bidiagonal(n, (i) => (i % 5 === 2 ? 0 : 1))],
    ["very small numbers", randomMatrix(n, n, 3).map((v) => v * 1e-60)],
    ["very large numbers", randomMatrix(n, n, 3).map((v) => v * 1e60)],
    ["ones", new Float64Array(n * n).fill(1)],
  ])("%s", (_, a) => expectSvd(a, n, n));

  test("zeros", () => {
    const { values, rightVectors } = smallSvd(new Float64Array(25), 5, 5, true);
    expect(values).toEqual(new Float64Array(5));
    expect(orthonormalityError(rightVectors!, 5)).toBe(0);
  });
});

function bidiagonal(n: number, diagonal: (i: number) => number): Float64Array {
  return Float64Array.from({ length: n * n }, (_, k) => {
    const [i, j] = [Math.floor(k / n), k % n];
    return i === j ? diagonal(i) : j === i + 1 ? 1 : 0;
  });
}

// torch.linalg.svdvals of the same matrix in float64 (PyTorch 1.13, LAPACK's gesdd).
test("PyTorch finds the same values", () => {
  const { values } = smallSvd(formulaMatrix(25, 4), 5, 5, false);
  const torch = [
    1.767593975155884, 1.25523506932015, 1.153898205556112, 0.2364319463129464, 0.02738779552129961,
  ];
  for (const [j, value] of torch.entries()) expect(values[j]).toBeCloseTo(value, 14);
});

test("a diagonal matrix is its own values", () => {
  const values = Array.from({ length: 8 }, (_, i) => 10 ** (-3 * i));
  const a = Float64Array.from({ length: 64 }, (_, k) => (k % 9 === 0 ? values[k / 9]! : 0));
  expect([...smallSvd(a, 8, 8, false).values]).toEqual(values);
});

test("what is not finite is refused", () => {
  expect(() => smallSvd(Float64Array.of(1, Number.NaN, 0, 1), 2, 2, true)).toThrow("not finite");
});
