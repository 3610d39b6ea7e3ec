/** A symmetric matrix as `H T Hᵀ` with T tridiagonal and H a product of Householder reflections. */
import { address, copyRows, kernels, workspace } from "./kernels.js";
import { squareStride } from "./layout.js";

export interface Tridiagonal {
  readonly diagonal: Float64Array;
  /** Element i is between the diagonal elements i and i + 1. */
  readonly offDiagonal: Float64Array;
  /** The vectors of the reflections, rows `squareStride(n)` apart: row j begins behind the diagonal. */
  readonly reflectors: Float64Array;
  /** What they are scaled with. */
  readonly betas: Float64Array;
}

/**
 * @param s - `[n, n]`, symmetric; both triangles
 * @param factor - what it is multiplied with first
 */
export function tridiagonalise(s: Float64Array, n: number, factor = 1): Tridiagonal {
  const stride = squareStride(n);
  // A row more, for rows are worked on in pairs.
  const scratch = (n + 1) * stride;
  const [w, y, diagonal, beside, betas] = [0, 1, 2, 3, 4].map((i) => scratch + i * (stride + 2)) as [
    number,
    number,
    number,
    number,
    number,
  ];
  const end = scratch + 5 * (stride + 2);
  const memory = workspace(end);
  copyRows(s, n, n, memory, stride);
  memory.fill(0, n * stride, end);
  if (factor !== 1) kernels.addVectors(0, address(n * stride), 0, 0, 0, factor, 0, 0);
  kernels.tridiagonalise(
    0,
    address(n * stride),
    address(n),
    address(stride),
    ...[w, y, diagonal, beside, betas].map(address),
  );
  return {
    diagonal: memory.slice(diagonal, diagonal + n),
    offDiagonal: memory.slice(beside, beside + n - 1),
    reflectors: memory.slice(0, n * stride),
    betas: memory.slice(betas, betas + n - 1),
  };
}

/**
 * `H x` for every row of a matrix: eigenvectors of T to those of the matrix.
 *
 * @param x - `[count, n]`
 */
export function reflectBack(
  { reflectors, betas }: Tridiagonal,
  x: Float64Array,
  count: number,
): Float64Array {
  const n = betas.length + 1;
  if (n === 1 || count === 0) return x;
  const stride = squareStride(n);
  const rows = n * stride;
  const scales = rows + count * stride;
  const memory = workspace(scales + n);
  memory.set(reflectors);
  memory.set(betas, scales);
  const area = memory.subarray(rows, scales);
  copyRows(x, count, n, area, stride);
  kernels.reflectBack(
    0,
    address(rows - 2 * stride),
    address(stride),
    address(scales),
    address(rows),
    address(scales),
  );
  const result = new Float64Array(count * n);
  copyRows(area, count, stride, result, n);
  return result;
}

/** The largest sum of a diagonal element and the one beside it, in magnitude: within a factor of 2 of the norm. */
export function tridiagonalNorm(diagonal: Float64Array, offDiagonal: Float64Array): number {
  let norm = 0;
  for (let i = 0; i < diagonal.length; i++) {
    const sum = Math.abs(diagonal[i]!) + Math.abs(offDiagonal[i] ?? 0);
    // Not Math.max: NaN must stay.
    if (!(sum <= norm)) norm = sum;
  }
  return norm;
}
