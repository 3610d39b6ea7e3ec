/** Two products `scale · up · down` side by side, neither of them formed. */
import {
  crossProducts,
  type ProductSvd,
  productNorm,
  productSvd,
  smallSvd,
  type Values,
} from "../../linalg/index.js";

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

/** Below this relative difference, norms and inner product cancel and say little about it. */
const CANCELLATION = 1e-3;

export function compareProducts(a: ScaledProduct, b: ScaledProduct): ProductComparison {
  const svdA = productSvd(a.factors, a.rank);
  const svdB = productSvd(b.factors, b.rank);
  const normA = norm(svdA.singularValues) * Math.abs(a.scale);
  const normB = norm(svdB.singularValues) * Math.abs(b.scale);
  // ⟨A, B⟩ = trace(Aᵀ B) = Σᵢⱼ (upᵀ_A up_B)ᵢⱼ (down_A downᵀ_B)ᵢⱼ
  const ups = crossProducts(a.factors.upT, a.rank, b.factors.upT, b.rank);
  const downs = crossProducts(a.factors.down, a.rank, b.factors.down, b.rank);
  const innerProduct = a.scale * b.scale * ups.reduce((sum, value, k) => sum + value * downs[k]!, 0);
  const squared = normA ** 2 + normB ** 2 - 2 * innerProduct;
  const cancels = !(squared > (CANCELLATION * Math.max(normA, normB)) ** 2);
  const [countA, countB] = [significant(svdA), significant(svdB)];
  const angles = (side: "leftVectors" | "rightVectors") =>
    principalAngles(svdA[side](countA), countA, svdB[side](countB), countB);
  return {
    normA,
    normB,
    differenceNorm: cancels ? exactDifference(a, b) : Math.sqrt(squared),
    innerProduct,
    columnAngles: angles("leftVectors"),
    rowAngles: angles("rightVectors"),
  };
}

function norm(values: Float64Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
}

function significant({ singularValues, numericalRank }: ProductSvd): number {
  const threshold = SIGNIFICANT * singularValues[0]!;
  return singularValues.subarray(0, numericalRank).filter((value) => value > threshold).length;
}

/** `A - B` is a product too: of the factors one below the other, with the scales in `up`. */
function exactDifference(a: ScaledProduct, b: ScaledProduct): number {
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

/**
 * The angles between two spaces that are given by orthonormal rows: arc cosines of the singular values of `X Yᵀ`. Angles
 * below some 1e-6 degrees cannot be told from 0.
 *
 * @see Björck & Golub 1973 (Math. Comp. 27, 579-594)
 */
function principalAngles(x: Float64Array, xRows: number, y: Float64Array, yRows: number): number[] {
  if (xRows === 0 || yRows === 0) return [];
  const { values } = smallSvd(crossProducts(x, xRows, y, yRows), xRows, yRows, false);
  return Array.from(values, (cosine) => (Math.acos(Math.min(1, cosine)) * 180) / Math.PI);
}
