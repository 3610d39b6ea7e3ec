/** Matrices are row-major and dense: element (i, j) of `[rows, columns]` is at `i · columns + j`. */
import { FORMAT_BYTES, type NumberFormat } from "./number-formats.js";

/** Numbers that can be computed with as they are. */
export type Values = Float32Array | Float64Array;

/** Input factors; everything that is computed from them is float64. */
export type InputValues = Values | StoredValues;

/** Numbers as they are in a file: converted where they are needed, a strip at a time. */
export class StoredValues {
  readonly bytes: Uint8Array;
  readonly format: NumberFormat;
  /** Whether element (i, j) of `[rows, columns]` is at `j · rows + i`. */
  readonly byColumns: boolean;

  constructor(bytes: Uint8Array, format: NumberFormat, byColumns = false) {
    this.bytes = bytes;
    this.format = format;
    this.byColumns = byColumns;
  }

  get length(): number {
    return this.bytes.length / FORMAT_BYTES[this.format];
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
