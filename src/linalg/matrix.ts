/** Matrices are row-major and dense: element (i, j) of `[rows, columns]` is at `i · columns + j`. */

/** Numbers that can be computed with as they are. */
export type Values = Float32Array | Float64Array;

/** Input factors; everything that is computed from them is float64. */
export type InputValues = Values | HalfFloats;

/** Half precision as it is in a file: converted where it is needed, a strip at a time. */
export class HalfFloats {
  readonly codes: Uint16Array;

  constructor(codes: Uint16Array) {
    this.codes = codes;
  }

  get length(): number {
    return this.codes.length;
  }
}

/** `[rows, columns]` to `[columns, rows]`. */
export function transposed(values: Float64Array, rows: number, columns: number): Float64Array {
  const result = new Float64Array(values.length);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) result[j * rows + i] = values[i * columns + j]!;
  }
  return result;
}

/** Matrices are read in square blocks, so that neither side of the transposition leaves the cache. */
const BLOCK = 32;

/** The codes of `[rows, columns]` as those of `[columns, rows]`. */
export function transposedHalves(codes: Uint16Array, rows: number, columns: number): Uint16Array {
  const result = new Uint16Array(codes.length);
  for (let rowBlock = 0; rowBlock < rows; rowBlock += BLOCK) {
    const rowEnd = Math.min(rowBlock + BLOCK, rows);
    for (let columnBlock = 0; columnBlock < columns; columnBlock += BLOCK) {
      const columnEnd = Math.min(columnBlock + BLOCK, columns);
      for (let column = columnBlock; column < columnEnd; column++) {
        for (let row = rowBlock; row < rowEnd; row++) {
          result[column * rows + row] = codes[row * columns + column]!;
        }
      }
    }
  }
  return result;
}

/** Factors of adapters are float32, so that no square of theirs overflows or vanishes in float64. */
export function frobeniusNorm(values: Values): number {
  let squares = 0;
  for (let k = 0; k < values.length; k++) squares += values[k]! * values[k]!;
  return Math.sqrt(squares);
}
