/** The singular values of a reduced product, and the right singular vectors of the largest ones. */
import { lqDecomposition } from "./householder.js";
import { transposed } from "./matrix.js";
import { diagonalOf, gramTriangle, MAX_GRAM_CONDITION, type ReducedProduct } from "./reduced-product.js";
import { combineRows } from "./strips.js";
import { smallSvd } from "./svd.js";
import { leadingEigen } from "./symmetric-eigen.js";

/**
 * With more than this share of the components, the decomposition that gives all of them is about as fast, and its vectors are
 * accurate for the smallest values, too.
 */
const MAX_LEADING = 0.75;

export interface Components {
  /** All of them, descending. */
  readonly values: Float64Array;
  /** Of the first `count` of them at least, `inner` numbers each. */
  readonly rightVectors: Float64Array;
}

/** @param count - how many of the vectors are wanted */
export function components(reduced: ReducedProduct, count: number): Components {
  return leadingComponents(reduced, count) ?? decompose(reduced, count);
}

/** By the singular values of `L_uᵀ L_d`. */
function decompose({ upT, inner, triangle, upGram }: ReducedProduct, count: number): Components {
  const gramL = gramTriangle(upT, inner, upGram)?.l;
  const { l, innerRank: rows } =
    gramL === undefined ? lqDecomposition(upT, inner, false) : { l: gramL, innerRank: inner };
  const upL = transposed(l, inner, rows);
  const matrix = triangle === null ? upL : combineRows(upL, rows, triangle.l, inner, "x is lower");
  const { values, rightVectors } = smallSvd(matrix, rows, inner, count > 0);
  return { values, rightVectors: rightVectors ?? new Float64Array() };
}

/**
 * By the eigenvalues of `S = L_dᵀ (upᵀ up) L_d`, the squares of the singular values; its eigenvectors are the right singular vectors.
 *
 * The price is again that of a square. With the columns `u_i` of up and the rows `d_i` of down, whose norms are those of the rows of
 * L_d, no number in these products is larger than `P = Σ ‖u_i‖² ‖d_i‖²`: rounding changes S, and so every eigenvalue (Weyl), by about
 * `2^-53 · P`, and the relative error of the singular value σ is `2^-53 · P / (2 σ²)`. For the smallest of them it may be what
 * `MAX_GRAM_CONDITION` allows. Vectors of the largest ones are as accurate as from L; those of the smallest are not.
 *
 * @returns null where it would cost accuracy, and where it would not be faster
 */
function leadingComponents(
  { upT, triangle, upGram, inner }: ReducedProduct,
  count: number,
): Components | null {
  if (triangle === null || upT.length < inner ** 2 || count > MAX_LEADING * inner) return null;
  const { l, norms } = triangle;
  const s = combineRows(
    l,
    inner,
    combineRows(upGram(), inner, l, inner, "x is lower"),
    inner,
    "coefficients are transposed lower",
  );
  const upSquares = diagonalOf(upGram(), inner);
  const largest = norms.reduce((sum, norm, i) => sum + norm ** 2 * upSquares[i]!, 0);
  const trace = diagonalOf(s, inner).reduce((sum, value) => sum + value, 0);
  if (!(trace > 0)) return null;
  // Of a size at which squares are in the range of float64, whatever the factors are.
  const eigen = leadingEigen(s, inner, count, 1 / trace);
  if (eigen === null) return null;
  const smallest = eigen.values.at(-1)! * trace;
  if (!(largest <= MAX_GRAM_CONDITION ** 2 * smallest)) return null;
  return { values: eigen.values.map((value) => Math.sqrt(value * trace)), rightVectors: eigen.vectors };
}
