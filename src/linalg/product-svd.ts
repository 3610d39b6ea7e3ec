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
 */
import { internalError } from "../errors.js";
import { lqDecomposition } from "./householder.js";
import { type InputValues, transposed } from "./matrix.js";
import { frobeniusNorm } from "./norm.js";
import type { NumberFormat } from "./number-formats.js";
import { components } from "./product-components.js";
import { diagonalOf, type LowRankFactors, type ReducedProduct, reduceProduct } from "./reduced-product.js";
import { singleSuffices } from "./single-precision.js";
import { combineRows, combineRowsTo, combineRowsToFloat32, crossProducts } from "./strips.js";

export type { LowRankFactors } from "./reduced-product.js";

/** Factors of rank `k`: `down` `[k, I]`, `upT` `[k, O]`. */
export interface TruncatedFactors {
  readonly down: Float32Array;
  readonly upT: Float32Array;
}

/** The same as bytes of a file: `down` `[k, I]`, `up` `[O, k]`. */
export interface StoredFactors {
  readonly down: Uint8Array;
  readonly up: Uint8Array;
}

/** Both `[count, otherCount]`. */
export interface VectorProducts {
  readonly left: Float64Array;
  readonly right: Float64Array;
}

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
  /** `[kept, inner]` */
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
    const { roots, left, right } = this.#coefficients(rank);
    const count = roots.length;
    const resultOf = (x: InputValues) => new Float32Array(rank * (x.length / inner));
    // Components of the value zero stay zero.
    const [downResult, upResult] = [resultOf(down), resultOf(upT)];
    downResult.set(combineRowsToFloat32(right, count, down, inner));
    upResult.set(combineRowsToFloat32(left, count, upT, inner));
    return { down: downResult, upT: upResult };
  }

  /** The same as a file has it: `down` `[k, I]`, `up` `[O, k]`. In float32, where the format does not show it. */
  truncateTo(format: NumberFormat, rank: number): StoredFactors {
    const { down, upT, inner, triangle, upGram } = this.#reduced;
    const { roots, left, right } = this.#coefficients(rank);
    const side = (
      coefficients: Float64Array,
      x: InputValues,
      rowNorms: () => Float64Array,
      byColumns: boolean,
    ) => {
      const single =
        triangle !== null && singleSuffices({ coefficients, rowNorms: rowNorms(), norms: roots }, format);
      // Components of the value zero are zero.
      const rows = padded(coefficients, rank * inner);
      return combineRowsTo(format, rows, rank, x, inner, { byColumns, single }).bytes;
    };
    return {
      down: side(right, down, () => triangle!.norms, false),
      up: side(left, upT, () => diagonalOf(upGram(), inner).map(Math.sqrt), true),
    };
  }

  #coefficients(rank: number): Coefficients {
    const count = Math.min(rank, this.numericalRank);
    const roots = this.singularValues.subarray(0, count).map(Math.sqrt);
    return { roots, left: this.#leftCoefficients(roots), right: this.#rightCoefficients(roots) };
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
    return crossProducts(rows, divisors.length, triangle.l, inner);
  }

  /** `diag(factors) Bᵀ L_d⁻¹` */
  #rightCoefficients(factors: Float64Array): Float64Array {
    const { triangle, inner } = this.#reduced;
    const rows = this.#scaledVectors(factors);
    return triangle === null
      ? rows
      : combineRows(rows, factors.length, triangle.inverse, inner, "x is lower");
  }

  /** `diag(factors) Bᵀ` */
  #scaledVectors(factors: Float64Array): Float64Array {
    const { inner } = this.#reduced;
    if (factors.length * inner > this.#rightVectors.length) {
      throw internalError(`${factors.length} components of a product, which was decomposed for fewer`);
    }
    const rows = new Float64Array(factors.length * inner);
    for (let j = 0; j < factors.length; j++) {
      const factor = factors[j]!;
      for (let k = j * inner; k < (j + 1) * inner; k++) rows[k] = this.#rightVectors[k]! * factor;
    }
    return rows;
  }
}

/** What the factors are multiplied with for the components that are not zero; `[count, inner]` both. */
interface Coefficients {
  /** Of the singular values: the norms of the results. */
  readonly roots: Float64Array;
  readonly left: Float64Array;
  readonly right: Float64Array;
}

/**
 * @param factors - finite
 * @param rank - `R`
 * @param kept - how many of the components are wanted, the largest ones: no more of them can be used afterwards
 */
export function productSvd(factors: LowRankFactors, rank: number, kept = rank): ProductSvd {
  const reduced = reduceProduct(factors, rank);
  const { values, rightVectors } = components(reduced, kept);
  return new ProductSvd(padded(values, rank), countNonZero(values, rank), reduced, rightVectors);
}

/** The singular values alone, `R` of them, descending. */
export function productSingularValues(factors: LowRankFactors, rank: number): Float64Array {
  return padded(components(reduceProduct(factors, rank), 0).values, rank);
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
