/** Linear algebra of long, thin matrices and of small square ones, in float64. Knows nothing of adapters and files. */
export { type LqDecomposition, lqDecomposition } from "./householder.js";
export {
  frobeniusNorm,
  HalfFloats,
  type InputValues,
  transposed,
  transposedHalves,
  type Values,
} from "./matrix.js";
export {
  type LowRankFactors,
  ProductSvd,
  productNorm,
  productSingularValues,
  productSvd,
  type TruncatedFactors,
} from "./product-svd.js";
export { combineRows, combineRowsToFloat32, crossProducts, gramMatrix } from "./strips.js";
export { type SmallSvd, smallSvd } from "./svd.js";
