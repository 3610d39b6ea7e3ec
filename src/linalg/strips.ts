/** Products with a long matrix, a strip of its columns at a time: matrices whose rows are far longer than they are many. */
import type { StoredFormat } from "./conversion-kernels.js";
import { allot, conversion, kernels, numbersOf } from "./kernels.js";
import { ELEMENT_BYTES, roundUp, STRIP_COLUMNS, STRIP_STRIDE } from "./layout.js";
import { type InputValues, StoredValues } from "./matrix.js";
import type { NumberFormat } from "./number-formats.js";
import {
  COMBINE_ROWS,
  combineColumns,
  DOT_TILE,
  DOUBLE,
  type ElementType,
  SINGLE,
} from "./product-kernels.js";
import { resultRoom, StripResult } from "./strip-result.js";
import { StripSource, storedRoom, stripRows } from "./strip-source.js";

const ROW_BYTES = STRIP_STRIDE * ELEMENT_BYTES;

/**
 * The Gram matrix `X Xᵀ`, `[rows, rows]`, symmetric.
 *
 * @param x - `[rows, N]`
 */
export function gramMatrix(x: InputValues, rows: number): Float64Array {
  return dotProducts(x, rows, x, rows, true);
}

/**
 * `X Yᵀ`, `[xRows, yRows]`.
 *
 * @param x - `[xRows, N]`
 * @param y - `[yRows, N]`
 */
export function crossProducts(x: InputValues, xRows: number, y: InputValues, yRows: number): Float64Array {
  return dotProducts(x, xRows, y, yRows, false);
}

function dotProducts(
  x: InputValues,
  xRows: number,
  y: InputValues,
  yRows: number,
  lowerOnly: boolean,
): Float64Array {
  const xPadded = roundUp(xRows, DOT_TILE.x);
  const yPadded = roundUp(yRows, DOT_TILE.x);
  const [xStrip, yOwn, out, xRoom, yRoom] = allot(
    xPadded * ROW_BYTES,
    lowerOnly ? 0 : yPadded * ROW_BYTES,
    xPadded * yPadded * ELEMENT_BYTES,
    storedRoom(x, xRows),
    lowerOnly ? 0 : storedRoom(y, yRows),
  );
  const yStrip = lowerOnly ? xStrip : yOwn;
  const first = out / ELEMENT_BYTES;
  const sums = numbersOf(DOUBLE).subarray(first, first + xPadded * yPadded);
  sums.fill(0);
  const xSource = new StripSource(x, xRows, xRoom);
  const ySource = lowerOnly ? xSource : new StripSource(y, yRows, yRoom);
  for (let begin = 0; begin < xSource.length; begin += STRIP_COLUMNS) {
    const columns = Math.min(STRIP_COLUMNS, xSource.length - begin);
    xSource.load(begin, columns, xStrip, STRIP_STRIDE, DOUBLE);
    if (!lowerOnly) ySource.load(begin, columns, yStrip, STRIP_STRIDE, DOUBLE);
    kernels.dotBlock(
      xStrip,
      xStrip + xPadded * ROW_BYTES,
      yStrip,
      yStrip + (lowerOnly ? DOT_TILE.x : yPadded) * ROW_BYTES,
      lowerOnly ? DOT_TILE.x * ROW_BYTES : 0,
      // Odd lengths end with a zero that `load` leaves.
      roundUp(columns, 2) * ELEMENT_BYTES,
      out,
      yPadded * ELEMENT_BYTES,
    );
  }
  if (lowerOnly) {
    const rowBytes = yPadded * ELEMENT_BYTES;
    kernels.transposeTriangle(
      ...[out, out + xPadded * rowBytes, rowBytes, 0, 0, ELEMENT_BYTES, ELEMENT_BYTES, out],
    );
  }
  return firstColumns(sums, xRows, yPadded, yRows);
}

function firstColumns(x: Float64Array, rows: number, stride: number, columns: number): Float64Array {
  if (columns === stride) return x.slice(0, rows * stride);
  const result = new Float64Array(rows * columns);
  for (let i = 0; i < rows; i++) result.set(x.subarray(i * stride, i * stride + columns), i * columns);
  return result;
}

/**
 * Where factors of a product of square matrices are known to be zero. With `transposed lower` the coefficients are given by columns:
 * the lower triangular matrix itself is.
 */
export type Triangles = "none" | "x is lower" | "coefficients are transposed lower";

/**
 * Linear combinations of rows: `C X`, `[count, N]`, computed in float64.
 *
 * @param coefficients - `[count, rows]`
 * @param x - `[rows, N]`
 */
export function combineRows(
  coefficients: Float64Array,
  count: number,
  x: InputValues,
  rows: number,
  triangles: Triangles = "none",
): Float64Array {
  const result = combine({ coefficients, count, x, rows, triangles, format: "F64" });
  return new Float64Array(result.buffer);
}

/** The same, every element rounded once to float32. */
export function combineRowsToFloat32(
  coefficients: Float64Array,
  count: number,
  x: InputValues,
  rows: number,
): Float32Array {
  return new Float32Array(combine({ coefficients, count, x, rows, format: "F32" }).buffer);
}

export interface CombineOptions {
  /** Store the result by columns. Default false. */
  readonly byColumns?: boolean;
  /** Compute in float32. Default false. */
  readonly single?: boolean;
}

/** The same as numbers of a format, every element rounded to float32 and then to the format. */
export function combineRowsTo(
  format: NumberFormat,
  coefficients: Float64Array,
  count: number,
  x: InputValues,
  rows: number,
  options: CombineOptions = {},
): StoredValues {
  const bytes = combine({ coefficients, count, x, rows, format, ...options });
  return new StoredValues(bytes, format, options.byColumns);
}

interface Combination extends CombineOptions {
  readonly coefficients: Float64Array;
  readonly count: number;
  readonly x: InputValues;
  readonly rows: number;
  /** Of the result. */
  readonly format: StoredFormat;
  readonly triangles?: Triangles;
}

function combine({
  coefficients,
  count,
  x,
  rows,
  format,
  triangles = "none",
  byColumns = false,
  single = false,
}: Combination): Uint8Array<ArrayBuffer> {
  const type = single ? SINGLE : DOUBLE;
  const length = x.length / rows;
  const shape = { rows: count, length, format, byColumns };
  const padded = roundUp(count, COMBINE_ROWS);
  const panelBytes = COMBINE_ROWS * rows * type.bytes;
  const panelsBytes = (padded / COMBINE_ROWS) * panelBytes;
  const [panels, xStrip, outStrip, xRoom, coefficientRoom, room] = allot(
    panelsBytes + COMBINE_ROWS * type.bytes,
    stripRows(rows) * STRIP_STRIDE * type.bytes,
    padded * STRIP_STRIDE * type.bytes,
    storedRoom(x, rows),
    padded * rows * ELEMENT_BYTES,
    resultRoom(shape),
  );
  packPanels(coefficients, count, rows, coefficientRoom, panels, type, triangles);
  const source = new StripSource(x, rows, xRoom);
  const result = new StripResult(shape, room);
  const multiply = type === SINGLE ? kernels.combineBlockSingle : kernels.combineBlock;
  const tileColumns = combineColumns(type);
  const columnSkip = triangles === "x is lower" ? tileColumns : 0;
  const rowSkip = triangles === "coefficients are transposed lower" ? COMBINE_ROWS : 0;
  for (const begin of result.begins()) {
    const columns = Math.min(STRIP_COLUMNS, length - begin);
    source.load(begin, columns, xStrip, STRIP_STRIDE, type);
    const xEnd = xStrip + roundUp(columns, tileColumns) * type.bytes;
    const skip = columnSkip === 0 ? 0 : begin;
    multiply(
      ...[panels, panels + panelsBytes, panelBytes],
      ...[xStrip, xEnd, outStrip],
      ...[skip, columnSkip, rowSkip],
    );
    result.store(begin, columns, outStrip, type);
  }
  return result.bytes();
}

/** Rows four by four, as `combineBlock` reads them. What is in missing ones does not matter. */
function packPanels(
  coefficients: Float64Array,
  count: number,
  rows: number,
  room: number,
  panels: number,
  type: ElementType,
  triangles: Triangles,
): void {
  numbersOf(DOUBLE).set(coefficients, room / ELEMENT_BYTES);
  const pack = type === SINGLE ? kernels.packPanelSingle : kernels.packPanel;
  const rowBytes = rows * ELEMENT_BYTES;
  const panelRowBytes = COMBINE_ROWS * type.bytes;
  for (let i = 0; i < count; i += COMBINE_ROWS) {
    const panel = panels + i * rows * type.bytes;
    if (triangles === "coefficients are transposed lower") {
      const source = room + i * ELEMENT_BYTES;
      const copy = conversion("expandRows", "F64", type);
      copy(source, source + rows * rowBytes, rowBytes, panelRowBytes, panel, panelRowBytes);
    } else {
      const source = room + i * rowBytes;
      pack(source, source + rowBytes, rowBytes, panel);
    }
  }
}
