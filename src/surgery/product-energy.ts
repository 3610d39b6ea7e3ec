/**
 * Norms of `up · down` without forming it.
 *
 * ‖up · down‖² = trace((down downᵀ)(upᵀ up)) = Σᵢⱼ (down downᵀ)ᵢⱼ (upᵀ up)ᵢⱼ. The sum over i, j < b is the norm of the prefix
 * of rank b, so that one pass over two R x R matrices gives the norms of all prefixes.
 */
import type { ModuleFactors } from "../adapter/index.js";

/**
 * Squared Frobenius norms of `up[:, :b] · down[:b]` for b = 1 … R.
 *
 * @param factors - `down` `[R, I]`, `upT` `[R, O]`
 * @param rank - `R`
 */
export function prefixEnergies({ down, upT }: ModuleFactors, rank: number): Float64Array {
  const downGram = gramMatrix(down, rank);
  const upGram = gramMatrix(upT, rank);
  const energies = new Float64Array(rank);
  let sum = 0;
  for (let i = 0; i < rank; i++) {
    // Both are symmetric: the new row and column of the prefix count alike.
    for (let j = 0; j < i; j++) sum += 2 * downGram[i * rank + j]! * upGram[i * rank + j]!;
    sum += downGram[i * rank + i]! * upGram[i * rank + i]!;
    // Rounding can leave a product of almost nothing slightly below zero.
    energies[i] = Math.max(0, sum);
  }
  return energies;
}

/** Columns at a time: with 128 rows they stay in a second-level cache. */
const COLUMN_BLOCK = 512;
const TILE_ROWS = 2;
const TILE_COLUMNS = 4;

/**
 * `rows · rowsᵀ`, `[R, R]`, summed in float64. Only the lower triangle is meant to be read.
 *
 * @param rows - `[R, N]`
 */
export function gramMatrix(rows: Float32Array, rowCount: number): Float64Array {
  const length = rows.length / rowCount;
  const padded = Math.ceil(rowCount / TILE_COLUMNS) * TILE_COLUMNS;
  const values = padded === rowCount ? rows : new Float32Array(padded * length);
  if (values !== rows) values.set(rows);
  const sums = new Float64Array(padded * padded);
  for (let begin = 0; begin < length; begin += COLUMN_BLOCK) {
    const end = Math.min(begin + COLUMN_BLOCK, length);
    for (let i = 0; i < padded; i += TILE_ROWS) {
      for (let j = 0; j < i + TILE_ROWS; j += TILE_COLUMNS)
        addTile(values, length, begin, end, i, j, sums, padded);
    }
  }
  if (padded === rowCount) return sums;
  const gram = new Float64Array(rowCount * rowCount);
  for (let i = 0; i < rowCount; i++) gram.set(sums.subarray(i * padded, i * padded + rowCount), i * rowCount);
  return gram;
}

/** Adds the products of two rows with four, over the columns `[begin, end)`: eight sums for six loads. */
function addTile(
  values: Float32Array,
  length: number,
  begin: number,
  end: number,
  i: number,
  j: number,
  sums: Float64Array,
  stride: number,
): void {
  const a0 = i * length;
  const a1 = a0 + length;
  const b0 = j * length;
  const b1 = b0 + length;
  const b2 = b1 + length;
  const b3 = b2 + length;
  let s00 = 0;
  let s01 = 0;
  let s02 = 0;
  let s03 = 0;
  let s10 = 0;
  let s11 = 0;
  let s12 = 0;
  let s13 = 0;
  for (let k = begin; k < end; k++) {
    const x0 = values[a0 + k]!;
    const x1 = values[a1 + k]!;
    const y0 = values[b0 + k]!;
    const y1 = values[b1 + k]!;
    const y2 = values[b2 + k]!;
    const y3 = values[b3 + k]!;
    s00 += x0 * y0;
    s01 += x0 * y1;
    s02 += x0 * y2;
    s03 += x0 * y3;
    s10 += x1 * y0;
    s11 += x1 * y1;
    s12 += x1 * y2;
    s13 += x1 * y3;
  }
  const row0 = i * stride + j;
  const row1 = row0 + stride;
  sums[row0]! += s00;
  sums[row0 + 1]! += s01;
  sums[row0 + 2]! += s02;
  sums[row0 + 3]! += s03;
  sums[row1]! += s10;
  sums[row1 + 1]! += s11;
  sums[row1 + 2]! += s12;
  sums[row1 + 3]! += s13;
}
