/** Matrices are row-major and dense: element (i, j) of `[rows, columns]` is at `i · columns + j`. */

/** Input factors are float32; everything that is computed from them is float64. */
export type Values = Float32Array | Float64Array;

/** `[rows, columns]` to `[columns, rows]`. */
export function transposed(values: Float64Array, rows: number, columns: number): Float64Array {
  const result = new Float64Array(values.length);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) result[j * rows + i] = values[i * columns + j]!;
  }
  return result;
}

/** Factors of adapters are float32, so that no square of theirs overflows or vanishes in float64. */
export function frobeniusNorm(values: Values): number {
  let squares = 0;
  for (let k = 0; k < values.length; k++) squares += values[k]! * values[k]!;
  return Math.sqrt(squares);
}
