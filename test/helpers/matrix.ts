/** Matrices for tests, and the slow and obvious way to compute with them. Row-major, float64. */
import { randomValues } from "./random-adapter.js";

type Values = Float32Array | Float64Array;

/** Uniform in [-1, 1), the same for the same seed. */
export function randomMatrix(rows: number, columns: number, seed: number): Float64Array {
  return Float64Array.from(randomValues(rows * columns, seed), (value) => value * 10);
}

/** `A B`, `[rows, columns]`, with `A` `[rows, inner]`. */
export function multiply(a: Values, b: Values, rows: number): Float64Array {
  const inner = a.length / rows;
  const columns = b.length / inner;
  const result = new Float64Array(rows * columns);
  for (let i = 0; i < rows; i++) {
    for (let k = 0; k < inner; k++) {
      const value = a[i * inner + k]!;
      for (let j = 0; j < columns; j++) result[i * columns + j]! += value * b[k * columns + j]!;
    }
  }
  return result;
}

/** `Aᵀ`, with `A` `[rows, columns]`. */
export function transpose(a: Values, rows: number): Float64Array {
  const columns = a.length / rows;
  return Float64Array.from({ length: a.length }, (_, k) => a[(k % rows) * columns + Math.floor(k / rows)]!);
}

/** `up · down`, `[O, I]`, from `down` `[R, I]` and `upT` `[R, O]`. */
export function productOf(factors: { down: Values; upT: Values }, rank: number): Float64Array {
  return multiply(transpose(factors.upT, rank), factors.down, factors.upT.length / rank);
}

export function norm(a: Values): number {
  let squares = 0;
  for (const value of a) squares += value * value;
  return Math.sqrt(squares);
}

/** `‖a - b‖ / ‖b‖` */
export function relativeDifference(a: Values, b: Values): number {
  return norm(Float64Array.from(a, (value, k) => value - b[k]!)) / norm(b);
}

/** Norm of what a matrix of orthonormal rows has beyond the identity. */
export function orthonormalityError(a: Values, rows: number): number {
  const gram = multiply(a, transpose(a, rows), rows);
  for (let i = 0; i < rows; i++) gram[i * rows + i]! -= 1;
  return norm(gram);
}

/** The norm of the singular values from `rank` on: what no approximation of that rank can keep. */
export function tailNorm(singularValues: Float64Array, rank: number): number {
  return norm(singularValues.subarray(rank));
}

/**
 * A matrix that Python makes with the same formula, exactly: `((7 i² + 13 k i + 5 k²) mod 101 - 50) / 64`.
 *
 * @see the literals of the tests that use it
 */
export function formulaMatrix(elements: number, k: number): Float64Array {
  return Float64Array.from(
    { length: elements },
    (_, i) => (((7 * i * i + 13 * i * k + 5 * k * k) % 101) - 50) / 64,
  );
}
