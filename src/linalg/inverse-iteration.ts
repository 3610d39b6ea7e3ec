/**
 * Eigenvectors of a symmetric tridiagonal matrix T from its eigenvalues: a system with `T - λ I` blows up whatever a vector has of the
 * one that belongs to λ.
 *
 * Values that are far apart give vectors that are orthogonal by themselves; those of a cluster are made orthogonal to each other.
 *
 * @see Peters & Wilkinson 1979 (SIAM Review 21, 339-360); LAPACK's dstein
 */
import { SYSTEM_ROW_BYTES } from "./eigen-kernels.js";
import { address, copyRows, kernels, workspace } from "./kernels.js";
import { ELEMENT_BYTES, LANES, squareStride } from "./layout.js";
import { tridiagonalNorm } from "./tridiagonal.js";

/** Unit roundoff of float64. */
const EPSILON = 2 ** -53;

/**
 * Values nearer to each other than this share of the norm are a cluster, as in dstein: beyond, what one vector has of another is some
 * roundoffs over the distance, 1e-13.
 */
const CLUSTER = 1e-3;

/** One is enough for most vectors. */
const MAX_SOLUTIONS = 8;
/** After a solution that is large enough, to free it of what the first vector had of others. */
const EXTRA_SOLUTIONS = 1;

/**
 * @param diagonal - `[n]`
 * @param offDiagonal - `[n - 1]`
 * @param values - the eigenvalues, descending
 * @param count - the vectors of the first so many are wanted
 * @returns `[count, n]`, a vector in every row, `‖T x - λ x‖` at most some roundoffs of the norm; null where one was not found
 */
export function leadingVectors(
  diagonal: Float64Array,
  offDiagonal: Float64Array,
  values: Float64Array,
  count: number,
): Float64Array | null {
  const n = diagonal.length;
  if (n === 1) return new Float64Array(count).fill(1);
  const norm = tridiagonalNorm(diagonal, offDiagonal) || 1;
  // A solution of at least this length to a right side of length 1 has a residual of at most its inverse.
  const wanted = 1 / (Math.sqrt(n) * 16 * EPSILON * norm);
  const stride = squareStride(n);
  const beside = stride + LANES;
  const system = 2 * beside;
  const first = system + (stride * SYSTEM_ROW_BYTES) / ELEMENT_BYTES;
  const end = first + count * stride;
  const memory = workspace(end);
  memory.fill(0, 0, end);
  memory.set(diagonal);
  memory.set(offDiagonal, beside);
  let clusterBegin = 0;
  for (let j = 0; j < count; j++) {
    if (j > 0 && values[j - 1]! - values[j]! > CLUSTER * norm) clusterBegin = j;
    const x = first + j * stride;
    fillStart(memory, x, x + n, j);
    kernels.eliminateShifted(
      ...[0, address(n), address(beside), address(system)],
      ...[values[j]!, EPSILON * norm],
    );
    const isFound = kernels.inverseIteration(
      ...[address(first + clusterBegin * stride), address(x), address(x + stride), address(x + n - 1)],
      ...[address(system), MAX_SOLUTIONS, EXTRA_SOLUTIONS, wanted],
    );
    if (isFound === 0) return null;
  }
  const result = new Float64Array(count * n);
  copyRows(memory.subarray(first), count, stride, result, n);
  return result;
}

/**
 * Numbers in [-1, 1) that look random: the same for the same vector, and different for those of a cluster, whose systems may be
 * the same.
 */
function fillStart(memory: Float64Array, begin: number, end: number, index: number): void {
  let state = Math.imul(index + 1, 0x9e3779b1);
  for (let i = begin; i < end; i++) {
    // Numerical Recipes' linear congruential generator; its high bits are what counts.
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    memory[i] = state / 2 ** 31;
  }
}
