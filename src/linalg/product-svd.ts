/**
 * The singular value decomposition of `up · down` without forming it.
 *
 * Both factors are long and thin. With `down = L_d Q_d` and `upᵀ = L_u Q_u` (rows of Q orthonormal),
 *
 *     up · down = Q_uᵀ (L_uᵀ L_d) Q_d,    L_uᵀ L_d = A Σ Bᵀ,
 *
 * and the singular values of the small matrix are those of the product. Its right vectors are enough to write the parts of
 * rank 1 in terms of the factors themselves, so that neither Q is formed:
 *
 *     A Σ Q_u = Bᵀ L_dᵀ · upᵀ,    Bᵀ Q_d = Bᵀ L_d⁻¹ · down.
 *
 * L comes from the Gram matrix (Cholesky), which squares the condition number; where that would cost accuracy, it comes from
 * Householder reflections, with Q_d in place of `down`.
 */
import { lqDecomposition } from "./householder.js";
import { frobeniusNorm, type InputValues, transposed, transposedHalves } from "./matrix.js";
import {
  combineRows,
  combineRowsToFloat32,
  combineRowsToHalves,
  crossProducts,
  gramMatrix,
} from "./strips.js";
import { smallSvd } from "./svd.js";
import { cholesky, invertLower } from "./triangular.js";

/** Axes: `R` rank, `I` input features times kernel elements, `O` output features. */
export interface LowRankFactors {
  /** `[R, I]` */
  readonly down: InputValues;
  /** `[R, O]`: the transposed up factor. */
  readonly upT: InputValues;
}

/** Factors of rank `k`: `down` `[k, I]`, `upT` `[k, O]`. */
export interface TruncatedFactors {
  readonly down: Float32Array;
  readonly upT: Float32Array;
}

/** Both `[count, otherCount]`. */
export interface VectorProducts {
  readonly left: Float64Array;
  readonly right: Float64Array;
}

/**
 * Up to here the Gram matrix is used. With `c = ‖L‖ ‖L⁻¹‖` (Frobenius norms) the relative error of a singular value is about
 * `2^-53 · c² / 2`: less than a tenth of what float32 resolves. 128 rows of 320 random numbers have a `c` of 165.
 */
const MAX_GRAM_CONDITION = 1e4;

/** Unit roundoff of float64. */
const EPSILON = 2 ** -53;

/** Values below the largest one times this and the rank are rounding errors of zero. */
export const NUMERICAL_ZERO = 8 * EPSILON;

export class ProductSvd {
  /** Of `up · down`, descending, `R` of them; zero beyond the smaller side of the product. */
  readonly singularValues: Float64Array;
  /** How many of them are not zero to working precision. */
  readonly numericalRank: number;
  readonly #reduced: ReducedProduct;
  /** `[values, inner]` */
  readonly #rightVectors: Float64Array;

  constructor(
    singularValues: Float64Array,
    numericalRank: number,
    reduced: ReducedProduct,
    rightVectors: Float64Array,
  ) {
    this.singularValues = singularValues;
    this.numericalRank = numericalRank;
    this.#reduced = reduced;
    this.#rightVectors = rightVectors;
  }

  /**
   * The best approximation of rank `k` in the Frobenius and the spectral norm (Eckart and Young 1936), as factors whose
   * component j has the norm `sqrt(σ_j)` on both sides, largest first. Components of the value zero are zero.
   */
  truncate(rank: number): TruncatedFactors {
    const { down, upT, inner } = this.#reduced;
    const { count, left, right } = this.#coefficients(rank);
    const resultOf = (x: InputValues) => new Float32Array(rank * (x.length / inner));
    // Components of the value zero stay zero.
    const [downResult, upResult] = [resultOf(down), resultOf(upT)];
    downResult.set(combineRowsToFloat32(right, count, down, inner));
    upResult.set(combineRowsToFloat32(left, count, upT, inner));
    return { down: downResult, upT: upResult };
  }

  /** The same in half precision, as a file has it: `down` `[k, I]`, `up` `[O, k]`. */
  truncateToHalves(rank: number): { readonly down: Uint16Array; readonly up: Uint16Array } {
    const { down, upT, inner } = this.#reduced;
    const { count, left, right } = this.#coefficients(rank);
    const outputs = upT.length / inner;
    const [downResult, upResult] = [down, upT].map((x) => new Uint16Array(rank * (x.length / inner)));
    downResult!.set(combineRowsToHalves(right, count, down, inner).codes);
    upResult!.set(combineRowsToHalves(left, count, upT, inner).codes);
    return { down: downResult!, up: transposedHalves(upResult!, rank, outputs) };
  }

  #coefficients(rank: number): { count: number; left: Float64Array; right: Float64Array } {
    const count = Math.min(rank, this.numericalRank);
    const roots = this.singularValues.subarray(0, count).map(Math.sqrt);
    return { count, left: this.#leftCoefficients(roots), right: this.#rightCoefficients(roots) };
  }

  /**
   * Dot products of the first `count` singular vectors of this product with those of another one, `[count, otherCount]`. The
   * vectors, which are long, are not computed for it.
   */
  vectorProducts(count: number, other: ProductSvd, otherCount: number): VectorProducts {
    const [own, others] = [this.#reduced, other.#reduced];
    const between = (left: Float64Array, x: InputValues, y: InputValues, right: Float64Array) => {
      const products = combineRows(left, count, crossProducts(x, own.inner, y, others.inner), own.inner);
      return crossProducts(products, count, right, otherCount);
    };
    return {
      left: between(
        this.#leftCoefficients(this.#values(count)),
        own.upT,
        others.upT,
        other.#leftCoefficients(other.#values(otherCount)),
      ),
      right: between(
        this.#rightCoefficients(ones(count)),
        own.down,
        others.down,
        other.#rightCoefficients(ones(otherCount)),
      ),
    };
  }

  #values(count: number): Float64Array {
    return this.singularValues.subarray(0, count);
  }

  /** `diag(1 / divisors) Bᵀ L_dᵀ` */
  #leftCoefficients(divisors: Float64Array): Float64Array {
    const { triangle, inner } = this.#reduced;
    const rows = this.#scaledVectors(divisors.map((divisor) => 1 / divisor));
    if (triangle === null) return rows;
    return combineRows(rows, divisors.length, transposed(triangle.l, inner, inner), inner);
  }

  /** `diag(factors) Bᵀ L_d⁻¹` */
  #rightCoefficients(factors: Float64Array): Float64Array {
    const { triangle, inner } = this.#reduced;
    const rows = this.#scaledVectors(factors);
    return triangle === null ? rows : combineRows(rows, factors.length, triangle.inverse, inner);
  }

  /** `diag(factors) Bᵀ` */
  #scaledVectors(factors: Float64Array): Float64Array {
    const { inner } = this.#reduced;
    const rows = this.#rightVectors.slice(0, factors.length * inner);
    for (let k = 0; k < rows.length; k++) rows[k] = rows[k]! * factors[Math.floor(k / inner)]!;
    return rows;
  }
}

/**
 * @param factors - finite
 * @param rank - `R`
 */
export function productSvd(factors: LowRankFactors, rank: number): ProductSvd {
  const reduced = reduceProduct(factors, rank);
  const { inner } = reduced;
  const { matrix, rows } = coreMatrix(reduced);
  const { values, rightVectors } = smallSvd(matrix, rows, inner, true);
  return new ProductSvd(padded(values, rank), countNonZero(values, rank), reduced, rightVectors!);
}

/** The singular values alone, `R` of them, descending; about half the work. */
export function productSingularValues(factors: LowRankFactors, rank: number): Float64Array {
  const reduced = reduceProduct(factors, rank);
  const { matrix, rows } = coreMatrix(reduced);
  return padded(smallSvd(matrix, rows, reduced.inner, false).values, rank);
}

/**
 * Frobenius norm of `up · down`. Keeps its relative accuracy where the components cancel, as they do in the difference of two
 * products that are nearly the same.
 */
export function productNorm({ down, upT }: LowRankFactors, rank: number): number {
  const right = lqDecomposition(down, rank, false);
  const left = lqDecomposition(upT, rank, false);
  // ‖up · down‖ = ‖L_uᵀ L_d‖
  return frobeniusNorm(combineRows(transposed(left.l, rank, left.innerRank), left.innerRank, right.l, rank));
}

/** A product with `down` well conditioned. */
interface ReducedProduct {
  /** `[inner, I]` */
  readonly down: InputValues;
  /** `[inner, O]` */
  readonly upT: InputValues;
  readonly inner: number;
  /** Of `down = L Q`; null where the rows of `down` are orthonormal. */
  readonly triangle: Triangle | null;
}

/** `[n, n]` both. */
interface Triangle {
  readonly l: Float64Array;
  readonly inverse: Float64Array;
}

function reduceProduct({ down, upT }: LowRankFactors, rank: number): ReducedProduct {
  const triangle = gramTriangle(down, rank);
  if (triangle !== null) return { down, upT, inner: rank, triangle };
  const { l, q, innerRank } = lqDecomposition(down, rank, true);
  const upInTermsOfQ = combineRows(transposed(l, rank, innerRank), innerRank, upT, rank);
  return { down: q!, upT: upInTermsOfQ, inner: innerRank, triangle: null };
}

/** `L_uᵀ L_d`, `[rows, inner]` */
function coreMatrix({ upT, inner, triangle }: ReducedProduct): { matrix: Float64Array; rows: number } {
  const gramL = gramTriangle(upT, inner)?.l;
  const { l, innerRank: rows } =
    gramL === undefined ? lqDecomposition(upT, inner, false) : { l: gramL, innerRank: inner };
  const upL = transposed(l, inner, rows);
  return { matrix: triangle === null ? upL : combineRows(upL, rows, triangle.l, inner), rows };
}

/** `L` of `X = L Q` by way of the Gram matrix, or null where that is not accurate enough. */
function gramTriangle(x: InputValues, rows: number): Triangle | null {
  if (x.length / rows < rows) return null;
  const l = cholesky(gramMatrix(x, rows), rows);
  if (l === null) return null;
  const inverse = invertLower(l, rows);
  return frobeniusNorm(l) * frobeniusNorm(inverse) <= MAX_GRAM_CONDITION ? { l, inverse } : null;
}

function ones(count: number): Float64Array {
  return new Float64Array(count).fill(1);
}

function countNonZero(values: Float64Array, rank: number): number {
  const threshold = (values[0] ?? 0) * NUMERICAL_ZERO * rank;
  return values.filter((value) => value > threshold).length;
}

function padded(values: Float64Array, count: number): Float64Array {
  const result = new Float64Array(count);
  result.set(values);
  return result;
}
