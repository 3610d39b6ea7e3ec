/** The columns of a long matrix, a strip at a time, whatever its numbers are stored as. */
import { GROUP, type StoredFormat, storedBytes } from "./conversion-kernels.js";
import { conversion, numbersOf, workspaceBytes } from "./kernels.js";
import { LANES, roundUp } from "./layout.js";
import { type InputValues, StoredValues, type Values } from "./matrix.js";
import type { ElementType } from "./product-kernels.js";

/**
 * A matrix is copied into the workspace as a whole and converted from there, which is faster than row by row. Larger ones, which no
 * factor is, but a weight may be, would leave the workspace that large.
 */
export const MAX_COPIED_BYTES = 4 << 20;

export class StripSource {
  readonly length: number;
  readonly #rows: number;
  readonly #x: InputValues;
  readonly #format: StoredFormat;
  /** Where the numbers lie as they are stored; null where they do not. */
  readonly #stored: number | null;

  /**
   * @param x - `[rows, N]`
   * @param room - address of `storedRoom(x, rows)` free bytes in the workspace
   */
  constructor(x: InputValues, rows: number, room: number) {
    this.length = x.length / rows;
    this.#rows = rows;
    this.#x = x;
    this.#format = formatOf(x);
    this.#stored = isCopied(x) ? room : null;
    if (this.#stored !== null) workspaceBytes().set(bytesOf(x), room);
  }

  /**
   * Puts the columns `[begin, begin + columns)` into the workspace, zeros behind them up to a multiple of `LANES`.
   *
   * @param at - address; there must be room for `stripRows(rows)`
   * @param stride - between rows, in elements
   */
  load(begin: number, columns: number, at: number, stride: number, type: ElementType): void {
    const numbers = numbersOf(type);
    const first = at / type.bytes;
    if (this.#stored === null) {
      copyColumns(this.#x as Values, this.#rows, begin, columns, numbers, first, stride);
    } else {
      this.#expand(this.#stored, begin, columns, at, stride * type.bytes, type);
    }
    if (columns % LANES !== 0) clearBehind(numbers, this.#rows, columns, first, stride);
  }

  #expand(
    stored: number,
    begin: number,
    columns: number,
    at: number,
    rowBytes: number,
    type: ElementType,
  ): void {
    const size = storedBytes(this.#format);
    if (this.#x instanceof StoredValues && this.#x.byColumns) {
      const columnBytes = this.#rows * size;
      const source = stored + begin * columnBytes;
      const sourceEnd = source + roundUp(columns, GROUP) * columnBytes;
      const spanBytes = roundUp(this.#rows, GROUP) * size;
      const expand = conversion("expandColumns", this.#format, type);
      expand(source, sourceEnd, columnBytes, spanBytes, at, rowBytes);
    } else {
      const source = stored + begin * size;
      const sourceEnd = source + this.#rows * this.length * size;
      const spanBytes = roundUp(columns, GROUP) * size;
      const expand = conversion("expandRows", this.#format, type);
      expand(source, sourceEnd, this.length * size, spanBytes, at, rowBytes);
    }
  }
}

function copyColumns(
  x: Values,
  rows: number,
  begin: number,
  columns: number,
  numbers: Values,
  first: number,
  stride: number,
): void {
  const length = x.length / rows;
  for (let i = 0; i < rows; i++) {
    const from = i * length + begin;
    numbers.set(x.subarray(from, from + columns), first + i * stride);
  }
}

function clearBehind(numbers: Values, rows: number, columns: number, first: number, stride: number): void {
  for (let i = 0; i < rows; i++) {
    numbers.fill(0, first + i * stride + columns, first + i * stride + roundUp(columns, LANES));
  }
}

/** Rows that `load` writes to, some of them beyond the matrix. */
export function stripRows(rows: number): number {
  return roundUp(rows, GROUP);
}

/** Bytes for the numbers as they are stored, and for what is read beyond their end. */
export function storedRoom(x: InputValues, rows: number): number {
  return isCopied(x) ? (x.length + GROUP * (rows + 1)) * storedBytes(formatOf(x)) : 0;
}

function isCopied(x: InputValues): boolean {
  return x instanceof StoredValues || x.byteLength <= MAX_COPIED_BYTES;
}

function formatOf(x: InputValues): StoredFormat {
  if (x instanceof StoredValues) return x.format;
  return x instanceof Float32Array ? "F32" : "F64";
}

function bytesOf(x: InputValues): Uint8Array {
  return x instanceof StoredValues ? x.bytes : new Uint8Array(x.buffer, x.byteOffset, x.byteLength);
}
