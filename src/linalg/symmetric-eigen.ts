/**
 * All eigenvalues of a symmetric matrix and the vectors of the largest ones.
 *
 * To tridiagonal form, whose eigenvalues come from a QL iteration that keeps no vectors; each vector that is wanted then comes from its
 * value by inverse iteration. Where a quarter of the vectors is wanted, all of it takes a third of the time of a singular value
 * decomposition, which turns every vector with every step.
 *
 * Values are exact to about `n · 2^-53` of the largest one in magnitude.
 */
import { leadingVectors } from "./inverse-iteration.js";
import { address, kernels, workspace } from "./kernels.js";
import { reflectBack, tridiagonalise, tridiagonalNorm } from "./tridiagonal.js";

export interface LeadingEigen {
  /** Descending, `n` of them. */
  readonly values: Float64Array;
  /** `[count, n]`: row j is the vector of value j. */
  readonly vectors: Float64Array;
}

/**
 * @param s - `[n, n]`, symmetric, both triangles
 * @param count - of the vectors that are wanted, those of the largest values
 * @param factor - what the matrix is multiplied with first: the squares of its elements must then be in the range of float64
 * @returns values of the matrix times the factor; null where the iterations did not converge, as with elements that are not finite
 */
export function leadingEigen(s: Float64Array, n: number, count: number, factor = 1): LeadingEigen | null {
  const tridiagonal = tridiagonalise(s, n, factor);
  const values = eigenvalues(tridiagonal.diagonal, tridiagonal.offDiagonal);
  if (values === null) return null;
  const vectors = leadingVectors(tridiagonal.diagonal, tridiagonal.offDiagonal, values, count);
  if (vectors === null) return null;
  return { values, vectors: reflectBack(tridiagonal, vectors, count) };
}

/** Unit roundoff of float64. */
const EPSILON = 2 ** -53;

/** Less than two steps per value are usual; LAPACK gives up after 30. */
const MAX_STEPS_PER_VALUE = 30;

/**
 * The eigenvalues of a symmetric tridiagonal matrix, descending: QL steps in the form of Pal, Walker and Kahan, which works on the squares
 * of the elements beside the diagonal and takes no root in the inner loop.
 *
 * @param diagonal - `[n]`
 * @param offDiagonal - `[n - 1]`
 * @returns null where the iteration does not converge
 * @see Parlett, The Symmetric Eigenvalue Problem, 8.15; LAPACK's dsterf
 */
export function eigenvalues(diagonal: Float64Array, offDiagonal: Float64Array): Float64Array | null {
  const n = diagonal.length;
  const squares = n;
  const memory = workspace(2 * n);
  memory.set(diagonal);
  memory.fill(0, squares, squares + n);
  const norm = tridiagonalNorm(diagonal, offDiagonal);
  if (!Number.isFinite(norm)) return null;
  for (let i = 0; i < n - 1; i++) memory[squares + i] = offDiagonal[i]! ** 2;
  const negligible = (EPSILON * norm) ** 2;
  const steps = MAX_STEPS_PER_VALUE * n;
  if (kernels.eigenvalues(0, address(n), address(squares), negligible, steps) === 0) return null;
  return memory.slice(0, n).sort().reverse();
}
