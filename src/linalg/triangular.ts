/** Lower triangular matrices, `[n, n]`, row-major. */
import { address, copyRows, kernels, workspace } from "./kernels.js";
import { ELEMENT_BYTES, squareStride } from "./layout.js";

/**
 * The Cholesky factor `L` of a symmetric matrix: `S = L Lᵀ`.
 *
 * @param s - `[n, n]`; of its two triangles the upper one is read
 * @returns null where `s` is not positive definite to working precision
 */
export function cholesky(s: Float64Array, n: number): Float64Array | null {
  const stride = squareStride(n);
  const memory = workspace(2 * n * stride);
  const [rowBytes, end] = [address(stride), address(n * stride)];
  copyRows(s, n, n, memory, stride);
  if (kernels.cholesky(0, end, address(n), rowBytes) === 0) return null;
  memory.fill(0, n * stride, 2 * n * stride);
  kernels.transposeTriangle(0, end, rowBytes, 0, ELEMENT_BYTES, address(n), 0, end);
  return secondMatrix(memory, n, stride);
}

/** `L⁻¹`; the diagonal of L has no zero. */
export function invertLower(l: Float64Array, n: number): Float64Array {
  const stride = squareStride(n);
  const start = n * stride;
  const memory = workspace(2 * start);
  copyRows(l, n, n, memory, stride);
  memory.fill(0, start, 2 * start);
  kernels.invertLower(0, address(start - stride), address(n - 1), address(stride), address(2 * start));
  return secondMatrix(memory, n, stride);
}

function secondMatrix(memory: Float64Array, n: number, stride: number): Float64Array {
  const result = new Float64Array(n * n);
  copyRows(memory.subarray(n * stride, 2 * n * stride), n, stride, result, n);
  return result;
}
