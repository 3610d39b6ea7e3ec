/** Products with a long matrix, a strip of its columns at a time: matrices whose rows are far longer than they are many. */
import {
  address,
  COMBINE_TILE,
  DOT_TILE,
  kernels,
  loadNumbers,
  roundUp,
  rowStride,
  STRIP_COLUMNS,
  storeHalves,
  workspace,
} from "./kernels.js";
import { HalfFloats, type InputValues } from "./matrix.js";

const STRIDE = rowStride(STRIP_COLUMNS);

/** For the conversion of one row of a strip. */
const SCRATCH = STRIDE;

/**
 * The Gram matrix `X Xᵀ`, `[rows, rows]`, symmetric.
 *
 * @param x - `[rows, N]`
 */
export function gramMatrix(x: InputValues, rows: number): Float64Array {
  const gram = dotProducts(x, rows, x, rows, true);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < i; j++) gram[j * rows + i] = gram[i * rows + j]!;
  }
  return gram;
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
  const length = x.length / xRows;
  const xPadded = roundUp(xRows, DOT_TILE.x);
  const yPadded = roundUp(yRows, DOT_TILE.x);
  const yStart = lowerOnly ? 0 : xPadded * STRIDE;
  const outStart = (xPadded + (lowerOnly ? 0 : yPadded)) * STRIDE;
  const scratch = outStart + xPadded * yPadded;
  const memory = workspace(scratch + SCRATCH);
  memory.fill(0, 0, scratch);
  for (let begin = 0; begin < length; begin += STRIP_COLUMNS) {
    const columns = Math.min(STRIP_COLUMNS, length - begin);
    loadStrip(memory, 0, x, xRows, begin, columns, scratch);
    if (!lowerOnly) loadStrip(memory, yStart, y, yRows, begin, columns, scratch);
    // Odd lengths end with a zero that `loadStrip` leaves.
    const rowBytes = address(roundUp(columns, 2));
    for (let i = 0; i < xPadded; i += DOT_TILE.x) {
      const row = address(i * STRIDE);
      const yEnd = lowerOnly ? i + DOT_TILE.x : yPadded;
      for (let j = 0; j < yEnd; j += DOT_TILE.y) {
        kernels.dotTile(
          row,
          address(yStart + j * STRIDE),
          row + rowBytes,
          address(outStart + i * yPadded + j),
          address(yPadded),
        );
      }
    }
  }
  const result = new Float64Array(xRows * yRows);
  for (let i = 0; i < xRows; i++) {
    const from = outStart + i * yPadded;
    result.set(memory.subarray(from, from + yRows), i * yRows);
  }
  return result;
}

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
): Float64Array {
  const result = new Float64Array(count * (x.length / rows));
  combine(coefficients, count, x, rows, (memory, at, columns, to) => {
    result.set(memory.subarray(at, at + columns), to);
  });
  return result;
}

/** The same, every element rounded once to float32. */
export function combineRowsToFloat32(
  coefficients: Float64Array,
  count: number,
  x: InputValues,
  rows: number,
): Float32Array {
  const result = new Float32Array(count * (x.length / rows));
  combine(coefficients, count, x, rows, (memory, at, columns, to) => {
    result.set(memory.subarray(at, at + columns), to);
  });
  return result;
}

/** The same, every element rounded to float32 and then to half precision. */
export function combineRowsToHalves(
  coefficients: Float64Array,
  count: number,
  x: InputValues,
  rows: number,
): HalfFloats {
  const codes = new Uint16Array(count * (x.length / rows));
  combine(coefficients, count, x, rows, (_, at, columns, to, scratch) => {
    storeHalves(codes, to, columns, at, scratch);
  });
  return new HalfFloats(codes);
}

/** Where `combine` leaves a part of a row: `columns` elements at `at`, which belong at `to` in the result. */
type StoreRow = (memory: Float64Array, at: number, columns: number, to: number, scratch: number) => void;

function combine(
  coefficients: Float64Array,
  count: number,
  x: InputValues,
  rows: number,
  storeRow: StoreRow,
): void {
  const length = x.length / rows;
  const padded = roundUp(count, COMBINE_TILE.rows);
  const xStart = padded * rows;
  const outStart = xStart + rows * STRIDE;
  const scratch = outStart + padded * STRIDE;
  const memory = workspace(scratch + SCRATCH);
  interleave(memory, coefficients, count, rows);
  for (let begin = 0; begin < length; begin += STRIP_COLUMNS) {
    const columns = Math.min(STRIP_COLUMNS, length - begin);
    loadStrip(memory, xStart, x, rows, begin, columns, scratch);
    for (let j = 0; j < columns; j += COMBINE_TILE.columns) {
      for (let i = 0; i < padded; i += COMBINE_TILE.rows) {
        kernels.combineTile(
          address(i * rows),
          address((i + COMBINE_TILE.rows) * rows),
          address(xStart + j),
          address(outStart + i * STRIDE + j),
        );
      }
    }
    for (let i = 0; i < count; i++)
      storeRow(memory, outStart + i * STRIDE, columns, i * length + begin, scratch);
  }
}

/** Copies the columns `[begin, begin + columns)` of all rows, with zeros up to a multiple of what the kernels take. */
function loadStrip(
  memory: Float64Array,
  start: number,
  x: InputValues,
  rows: number,
  begin: number,
  columns: number,
  scratch: number,
): void {
  const length = x.length / rows;
  for (let i = 0; i < rows; i++) {
    const to = start + i * STRIDE;
    loadNumbers(x, i * length + begin, columns, to, scratch);
    memory.fill(0, to + columns, to + roundUp(columns, COMBINE_TILE.columns));
  }
}

/** Rows four by four, as `combineTile` reads them; missing ones are zero. */
function interleave(memory: Float64Array, coefficients: Float64Array, count: number, rows: number): void {
  const group = COMBINE_TILE.rows;
  memory.fill(0, 0, roundUp(count, group) * rows);
  for (let i = 0; i < count; i++) {
    const start = (i - (i % group)) * rows + (i % group);
    for (let k = 0; k < rows; k++) memory[start + k * group] = coefficients[i * rows + k]!;
  }
}
