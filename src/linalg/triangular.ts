/** Lower triangular matrices, `[n, n]`, row-major. */
import { address, kernels, LANES, roundUp, rowStride, workspace } from "./kernels.js";

/**
 * The Cholesky factor `L` of a symmetric matrix: `S = L Lᵀ`.
 *
 * @param s - `[n, n]`, both triangles
 * @returns null where `s` is not positive definite to working precision
 */
export function cholesky(s: Float64Array, n: number): Float64Array | null {
  const stride = rowStride(n);
  const memory = workspace(n * stride);
  memory.fill(0, 0, n * stride);
  for (let i = 0; i < n; i++) memory.set(s.subarray(i * n, (i + 1) * n), i * stride);
  const l = new Float64Array(n * n);
  for (let k = 0; k < n; k++) {
    const pivot = memory[k * stride + k]!;
    if (!(pivot > 0)) return null;
    const root = Math.sqrt(pivot);
    // By symmetry, what is right of the pivot is also what is below it.
    for (let i = k; i < n; i++) l[i * n + k] = memory[k * stride + i]! / root;
    eliminate(k, { begin: k - (k % LANES), end: roundUp(n, LANES) }, 0, k + 1, n, 1 / pivot);
  }
  return l;
}

/** `L⁻¹`; the diagonal of L has no zero. */
export function invertLower(l: Float64Array, n: number): Float64Array {
  const stride = rowStride(n);
  const start = n * stride;
  const memory = workspace(2 * start);
  memory.fill(0, 0, 2 * start);
  for (let i = 0; i < n; i++) {
    memory.set(l.subarray(i * n, i * n + i), i * stride);
    memory[start + i * stride + i] = 1;
  }
  // Solves X L = I for all rows of X at once, the last column first: x_j is final when the later ones are eliminated.
  for (let j = n - 1; j >= 0; j--) {
    eliminate(j, { begin: 0, end: roundUp(j + 1, LANES) }, start, j, n, 1 / l[j * n + j]!);
  }
  const inverse = new Float64Array(n * n);
  for (let i = 0; i < n; i++) inverse.set(memory.subarray(start + i * stride, start + i * stride + n), i * n);
  return inverse;
}

/** Columns that an elimination changes, beyond its pivot: whole vectors of them. */
interface Range {
  readonly begin: number;
  readonly end: number;
}

/** Eliminates column `pivot` from the rows `[first, n)` of the matrix at `start` with row `pivot` of the matrix at 0. */
function eliminate(
  pivot: number,
  { begin, end }: Range,
  start: number,
  first: number,
  n: number,
  inverse: number,
): void {
  if (first >= n) return;
  const stride = rowStride(n);
  kernels.eliminateRows(
    address(pivot * stride + begin),
    address(pivot * stride + end),
    address(start + first * stride + begin),
    address(start + n * stride + begin),
    address(stride),
    address(pivot - begin),
    inverse,
  );
}
