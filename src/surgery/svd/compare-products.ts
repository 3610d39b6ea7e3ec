/** Two products `scale · up · down` side by side, neither of them formed. */
import { type ProductSvd, productNorm, productSvd, smallSvd, type Values } from "../../linalg/index.js";

/** Axes: `R` rank (may differ), `I` input features times kernel elements, `O` output features (the same in both). */
export interface ScaledProduct {
  readonly factors: { readonly down: Values; readonly upT: Values };
  readonly rank: number;
  readonly scale: number;
}

export interface ProductComparison {
  /** Frobenius norms. */
  readonly normA: number;
  readonly normB: number;
  /** `‖A - B‖` */
  readonly differenceNorm: number;
  /** Frobenius inner product `⟨A, B⟩`. */
  readonly innerProduct: number;
  /** Principal angles between the spaces of outputs, in degrees, ascending; as many as the lower of the two ranks. */
  readonly columnAngles: readonly number[];
  /** The same between the spaces of inputs that have an effect. */
  readonly rowAngles: readonly number[];
}

/**
 * A direction whose singular value is below this share of the largest is left out of the angles: with factors in float32 it
 * would be rounding noise.
 */
const SIGNIFICANT = 1e-6;

/** Below this relative difference, norms and inner product cancel: they would leave less than four digits of it. */
const CANCELLATION = 1e-5;

export function compareProducts(a: ScaledProduct, b: ScaledProduct): ProductComparison {
  const svdA = productSvd(a.factors, a.rank);
  const svdB = productSvd(b.factors, b.rank);
  const normA = norm(svdA.singularValues) * Math.abs(a.scale);
  const normB = norm(svdB.singularValues) * Math.abs(b.scale);
  const [rankA, rankB] = [svdA.numericalRank, svdB.numericalRank];
  const { left, right } =
    rankA === 0 || rankB === 0
      ? { left: new Float64Array(), right: new Float64Array() }
      : svdA.vectorProducts(rankA, svdB, rankB);
  // ⟨A, B⟩ = Σᵢⱼ σᵢ τⱼ ⟨uᵢ, xⱼ⟩ ⟨vᵢ, yⱼ⟩
  let innerProduct = 0;
  for (let i = 0; i < rankA; i++) {
    for (let j = 0; j < rankB; j++) {
      const k = i * rankB + j;
      innerProduct += svdA.singularValues[i]! * svdB.singularValues[j]! * left[k]! * right[k]!;
    }
  }
  innerProduct *= a.scale * b.scale;
  const squared = normA ** 2 + normB ** 2 - 2 * innerProduct;
  const cancels = !(squared > (CANCELLATION * Math.max(normA, normB)) ** 2);
  const [countA, countB] = [significant(svdA), significant(svdB)];
  return {
    normA,
    normB,
    differenceNorm: cancels ? smallDifference(a, b) : Math.sqrt(squared),
    innerProduct,
    columnAngles: principalAngles(block(left, rankB, countA, countB), countA, countB),
    rowAngles: principalAngles(block(right, rankB, countA, countB), countA, countB),
  };
}

function norm(values: Float64Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
}

function significant({ singularValues, numericalRank }: ProductSvd): number {
  const threshold = SIGNIFICANT * singularValues[0]!;
  return singularValues.subarray(0, numericalRank).filter((value) => value > threshold).length;
}

/** The first rows and columns of a matrix. */
function block(matrix: Float64Array, stride: number, rows: number, columns: number): Float64Array {
  const result = new Float64Array(rows * columns);
  for (let i = 0; i < rows; i++) {
    result.set(matrix.subarray(i * stride, i * stride + columns), i * columns);
  }
  return result;
}

/** `A - B` is a product too: of the factors one below the other, with the scales in `up`. */
function smallDifference(a: ScaledProduct, b: ScaledProduct): number {
  // Files are often compared with themselves, or with a copy of which a part is as it was.
  if (a.scale === b.scale && isSame(a.factors.down, b.factors.down) && isSame(a.factors.upT, b.factors.upT)) {
    return 0;
  }
  const stacked = {
    down: joined(a.factors.down, 1, b.factors.down, 1),
    upT: joined(a.factors.upT, a.scale, b.factors.upT, -b.scale),
  };
  return productNorm(stacked, a.rank + b.rank);
}

function joined(x: Values, scaleX: number, y: Values, scaleY: number): Float64Array {
  const result = new Float64Array(x.length + y.length);
  for (let k = 0; k < x.length; k++) result[k] = x[k]! * scaleX;
  for (let k = 0; k < y.length; k++) result[x.length + k] = y[k]! * scaleY;
  return result;
}

function isSame(x: Values, y: Values): boolean {
  return x.length === y.length && x.every((value, k) => value === y[k]);
}

/**
 * The angles between two spaces: arc cosines of the singular values of the dot products of their orthonormal bases. Angles
 * below some 1e-4 degrees cannot be told from 0.
 *
 * @see Björck & Golub 1973 (Math. Comp. 27, 579-594)
 */
function principalAngles(products: Float64Array, rows: number, columns: number): number[] {
  if (rows === 0 || columns === 0) return [];
  const { values } = smallSvd(products, rows, columns, false);
  return Array.from(values, (cosine) => (Math.acos(Math.min(1, cosine)) * 180) / Math.PI);
}
