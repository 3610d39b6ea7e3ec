/** The singular values of a reduced product, and the right singular vectors of the largest ones. */
import { lqDecomposition } from "./householder.js";
import { transposed } from "./matrix.js";
import { gramTriangle, type ReducedProduct } from "./reduced-product.js";
import { combineRows } from "./strips.js";
import { smallSvd } from "./svd.js";

export interface Components {
  /** All of them, descending. */
  readonly values: Float64Array;
  /** Of the first `count` of them at least, `inner` numbers each. */
  readonly rightVectors: Float64Array;
}

/**
 * By the singular values of `L_uᵀ L_d`.
 *
 * @param count - how many of the vectors are wanted
 */
export function components({ upT, inner, triangle, upGram }: ReducedProduct, count: number): Components {
  const gramL = gramTriangle(upT, inner, upGram)?.l;
  const { l, innerRank: rows } =
    gramL === undefined ? lqDecomposition(upT, inner, false) : { l: gramL, innerRank: inner };
  const upL = transposed(l, inner, rows);
  const matrix = triangle === null ? upL : combineRows(upL, rows, triangle.l, inner, "x is lower");
  const { values, rightVectors } = smallSvd(matrix, rows, inner, count > 0);
  return { values, rightVectors: rightVectors ?? new Float64Array() };
}
