/**
 * `up · down` in a form whose decomposition is a small one: with the triangle L of `down = L Q`, or with Q in place of `down`.
 *
 * L comes from the Gram matrix (Cholesky), which squares the condition number; where that would cost accuracy, it comes from
 * Householder reflections.
 */
import { lqDecomposition } from "./householder.js";
import { type InputValues, transposed } from "./matrix.js";
import { frobeniusNorm } from "./norm.js";
import { combineRows, gramMatrix } from "./strips.js";
import { cholesky, invertLower } from "./triangular.js";

/** Axes: `R` rank, `I` input features times kernel elements, `O` output features. */
export interface LowRankFactors {
  /** `[R, I]` */
  readonly down: InputValues;
  /** `[R, O]`: the transposed up factor. */
  readonly upT: InputValues;
}

/**
 * Up to here the Gram matrix is used. With `c = ‖L‖ ‖L⁻¹‖` (Frobenius norms) the relative error of a singular value is about
 * `2^-53 · c² / 2`: less than a tenth of what float32 resolves. 128 rows of 320 random numbers have a `c` of 165.
 */
export const MAX_GRAM_CONDITION = 1e4;

/** A product with `down` well conditioned. */
export interface ReducedProduct {
  /** `[inner, I]` */
  readonly down: InputValues;
  /** `[inner, O]` */
  readonly upT: InputValues;
  readonly inner: number;
  /** Of `down = L Q`; null where the rows of `down` are orthonormal. */
  readonly triangle: Triangle | null;
  /** `upᵀ up`, `[inner, inner]` */
  readonly upGram: () => Float64Array;
}

/** `X = L Q`; L and its inverse `[n, n]`. */
export interface Triangle {
  readonly l: Float64Array;
  readonly inverse: Float64Array;
  /** Of the rows of X, and so of L. */
  readonly norms: Float64Array;
}

export function reduceProduct({ down, upT }: LowRankFactors, rank: number): ReducedProduct {
  const triangle = gramTriangle(down, rank);
  if (triangle !== null) {
    return { down, upT, inner: rank, triangle, upGram: lazy(() => gramMatrix(upT, rank)) };
  }
  const { l, q, innerRank: inner } = lqDecomposition(down, rank, true);
  const upInTermsOfQ = combineRows(transposed(l, rank, inner), inner, upT, rank);
  const upGram = lazy(() => gramMatrix(upInTermsOfQ, inner));
  return { down: q!, upT: upInTermsOfQ, inner, triangle: null, upGram };
}

/** `L` of `X = L Q` by way of the Gram matrix, or null where that is not accurate enough. */
export function gramTriangle(
  x: InputValues,
  rows: number,
  gram = () => gramMatrix(x, rows),
): Triangle | null {
  if (x.length / rows < rows) return null;
  const products = gram();
  const l = cholesky(products, rows);
  if (l === null) return null;
  const inverse = invertLower(l, rows);
  const norms = diagonalOf(products, rows).map(Math.sqrt);
  return frobeniusNorm(norms) * frobeniusNorm(inverse) <= MAX_GRAM_CONDITION ? { l, inverse, norms } : null;
}

/** Computed when it is asked for, and once. */
function lazy<T>(compute: () => T): () => T {
  let result: { value: T } | null = null;
  return () => {
    result ??= { value: compute() };
    return result.value;
  };
}

export function diagonalOf(matrix: Float64Array, n: number): Float64Array {
  const diagonal = new Float64Array(n);
  for (let i = 0; i < n; i++) diagonal[i] = matrix[i * n + i]!;
  return diagonal;
}
