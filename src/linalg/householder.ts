/** LQ decomposition by Householder reflections: slower than by Cholesky, and indifferent to how ill the matrix is conditioned. */
import { address, allot, kernels, numbersOf } from "./kernels.js";
import { ELEMENT_BYTES, LANES, roundUp, rowStride } from "./layout.js";
import type { InputValues } from "./matrix.js";
import { DOUBLE } from "./product-kernels.js";
import { StripSource, storedRoom, stripRows } from "./strip-source.js";

/** `X = L Q` with `m = min(rows, N)`. */
export interface LqDecomposition {
  /** `[rows, m]`, zero right of the diagonal. */
  readonly l: Float64Array;
  /** `[m, N]`, rows orthonormal whatever the rank of X is; null where it was not asked for. */
  readonly q: Float64Array | null;
  readonly innerRank: number;
}

/**
 * @param x - `[rows, N]`
 * @param withQ - whether Q is needed; without it the work is half
 */
export function lqDecomposition(x: InputValues, rows: number, withQ: boolean): LqDecomposition {
  const columns = x.length / rows;
  const innerRank = Math.min(rows, columns);
  const stride = rowStride(columns);
  const [, qAt, room] = allot(
    stripRows(rows) * stride * ELEMENT_BYTES,
    withQ ? innerRank * stride * ELEMENT_BYTES : 0,
    storedRoom(x, rows),
  );
  const qStart = qAt / ELEMENT_BYTES;
  const memory = numbersOf(DOUBLE);
  new StripSource(x, rows, room).load(0, columns, 0, stride, DOUBLE);

  const l = new Float64Array(rows * innerRank);
  const betas = new Float64Array(innerRank);
  for (let j = 0; j < innerRank; j++) {
    const row = memory.subarray(j * stride, j * stride + columns);
    l.set(row.subarray(0, j), j * innerRank);
    const { diagonal, beta } = makeReflector(row, j);
    l[j * innerRank + j] = diagonal;
    betas[j] = beta;
    reflect(j, columns, stride, beta, j + 1, rows, 0);
  }
  for (let i = innerRank; i < rows; i++) {
    l.set(memory.subarray(i * stride, i * stride + innerRank), i * innerRank);
  }
  if (!withQ) return { l, q: null, innerRank };

  memory.fill(0, qStart, qStart + innerRank * stride);
  for (let j = innerRank - 1; j >= 0; j--) {
    memory[qStart + j * stride + j] = 1;
    // Rows above j are still unit vectors that this reflection leaves alone.
    reflect(j, columns, stride, betas[j]!, j, innerRank, qStart);
  }
  const q = new Float64Array(innerRank * columns);
  for (let i = 0; i < innerRank; i++) {
    const from = qStart + i * stride;
    q.set(memory.subarray(from, from + columns), i * columns);
  }
  return { l, q, innerRank };
}

/**
 * Turns a row into the vector `v` of the reflection `I - beta v vᵀ` that clears it right of `pivot`, with zeros before.
 *
 * @returns `diagonal`: what the reflection leaves at the pivot; `beta`: 0 where there is nothing to clear
 */
export function makeReflector(row: Float64Array, pivot: number): { diagonal: number; beta: number } {
  row.fill(0, 0, pivot);
  const alpha = row[pivot]!;
  let squares = 0;
  for (let k = pivot; k < row.length; k++) squares += row[k]! * row[k]!;
  const norm = Math.sqrt(squares);
  if (norm === 0) return { diagonal: 0, beta: 0 };
  // Of the two reflections the one that subtracts nothing from nearly the same.
  const diagonal = alpha > 0 ? -norm : norm;
  row[pivot] = alpha - diagonal;
  return { diagonal, beta: 1 / (norm * (norm + Math.abs(alpha))) };
}

/** Applies the reflector in row `j` to the rows `[first, end)` of the matrix at `start`. */
function reflect(
  j: number,
  columns: number,
  stride: number,
  beta: number,
  first: number,
  end: number,
  start: number,
): void {
  if (beta === 0 || first >= end) return;
  const begin = j - (j % LANES);
  kernels.reflectRows(
    address(j * stride + begin),
    address(j * stride + roundUp(columns, LANES)),
    address(start + first * stride + begin),
    address(start + end * stride + begin),
    address(stride),
    beta,
  );
}
