import { describe, expect, test } from "vitest";
import { norm, randomMatrix } from "../../test/helpers/matrix.js";
import { singleSuffices } from "./single-precision.js";
import { combineRows, combineRowsTo } from "./strips.js";

/** What is known of `C X`; X in numbers that float32 holds. */
function combinations(coefficients: Float64Array, count: number, x: Float64Array, rows: number) {
  const rowsOf = (matrix: Float64Array, n: number) =>
    Array.from({ length: n }, (_, i) =>
      matrix.subarray((i * matrix.length) / n, ((i + 1) * matrix.length) / n),
    );
  const exact = rowsOf(combineRows(coefficients, count, x, rows), count);
  const { bytes } = combineRowsTo("F32", coefficients, count, x, rows, { single: true });
  const single = rowsOf(Float64Array.from(new Float32Array(bytes.buffer)), count);
  return {
    known: {
      coefficients,
      rowNorms: Float64Array.from(rowsOf(x, rows), norm),
      norms: Float64Array.from(exact, norm),
    },
    errors: exact.map((row, j) => norm(row.map((value, k) => value - single[j]![k]!)) / norm(row)),
  };
}

const [count, rows, columns] = [5, 32, 300];
const random = (n: number, m: number, seed: number) => randomMatrix(n, m, seed).map(Math.fround);
const given: [string, Float64Array, Float64Array, boolean][] = [
  ["random", randomMatrix(count, rows, 1), random(rows, columns, 2), true],
  ["rows over 9 orders of magnitude, and coefficients that level them", ...leveled(9), true],
  ["terms that cancel to a tenth", ...cancelling(0.1), true],
  ["terms that cancel to a millionth", ...cancelling(1e-6), false],
];

function leveled(orders: number): [Float64Array, Float64Array] {
  const step = (i: number) => 10 ** ((orders * i) / rows);
  const coefficients = randomMatrix(count, rows, 3).map((value, k) => value / step(k % rows));
  const x = random(rows, columns, 4).map((value, k) => Math.fround(value * step(Math.floor(k / columns))));
  return [coefficients, x];
}

/** Every second row of X is nearly the one before, and is subtracted from it. */
function cancelling(share: number): [Float64Array, Float64Array] {
  const coefficients = randomMatrix(count, rows, 5);
  for (let k = 1; k < coefficients.length; k += 2) coefficients[k] = -coefficients[k - 1]!;
  const x = random(rows, columns, 6);
  const noise = randomMatrix(rows, columns, 7);
  for (let i = 1; i < rows; i += 2) {
    for (let k = 0; k < columns; k++) {
      const at = i * columns + k;
      x[at] = Math.fround(x[at - columns]! + share * noise[at]!);
    }
  }
  return [coefficients, x];
}

describe.each(given)("%s", (_, coefficients, x, expected) => {
  const { known, errors } = combinations(coefficients, count, x, rows);

  test("float32 suffices where its error does not show in half precision", () => {
    expect(singleSuffices(known, "F16")).toBe(expected);
    expect(singleSuffices(known, "F32")).toBe(false);
    if (expected) expect(Math.max(...errors)).toBeLessThan(0.1 * 2 ** -11);
    else expect(Math.max(...errors)).toBeGreaterThan(1e-2 * 2 ** -11);
  });
});

test("numbers near the end of float32's range are left to float64", () => {
  const { known } = combinations(randomMatrix(count, rows, 1), count, random(rows, columns, 2), rows);
  const scaled = (values: Float64Array, factor: number) => values.map((value) => value * factor);
  expect(singleSuffices({ ...known, rowNorms: scaled(known.rowNorms, 2 ** 62) }, "F16")).toBe(false);
  expect(singleSuffices({ ...known, coefficients: scaled(known.coefficients, 2 ** 62) }, "F16")).toBe(false);
  expect(singleSuffices({ ...known, norms: scaled(known.norms, 2 ** -70) }, "F16")).toBe(false);
  expect(singleSuffices({ ...known, norms: known.norms.map(() => Number.NaN) }, "F16")).toBe(false);
});
