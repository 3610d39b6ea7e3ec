/**
 * Long sums of float16 products.
 *
 * onnxruntime's WebGPU kernels add up the products of a float16 Gemm or Conv in float16 (1.30: sums of ones stop growing at
 * 2048, in Gemm at 8192). A sum of n terms of either sign is then off by about 2^-11 sqrt(n / 6): 2 % for a convolution
 * over 1280 channels. Taken in blocks that are added in float32, it is off by what one block is.
 */

import type { Graph } from "./graph.js";
import { add, cast } from "./ops/elementwise.js";
import { slice } from "./ops/shape.js";
import type { Dim, ElementType, Tensor } from "./tensor.js";

/** Products added up in float16: an error of 0.7 %. */
const LONGEST_HALF_SUM = 1280;
/** Blocks begin at multiples of this, which the kernels' vectors and tiles divide. */
const BLOCK_MULTIPLE = 32;

export interface LongSum {
  /** Type that the products are computed in. */
  type: ElementType;
  /** Length of the axis that is summed over. */
  length: Dim;
  /** Products per position of that axis: the taps of a kernel. */
  terms: number;
  /** Added to the sum. */
  addend: Tensor | undefined;
}

/** One block of an axis of a tensor, or the tensor itself. */
export type Cut = (tensor: Tensor, axis: number) => Tensor;

/**
 * A sum of products as one node, or where it is too long for float16 as a sum over blocks.
 *
 * @param part - the sum over the block that `cut` gives, plus the addend
 */
export function sumInBlocks(
  graph: Graph,
  { type, length, terms, addend }: LongSum,
  part: (cut: Cut, addend: Tensor | undefined) => Tensor,
): Tensor {
  // A symbolic length is a LoRA's rank: short.
  if (type !== "float16" || typeof length !== "number" || length * terms <= LONGEST_HALF_SUM) {
    return part((tensor) => tensor, addend);
  }
  const blocks = Math.ceil((length * terms) / LONGEST_HALF_SUM);
  const blockLength = Math.ceil(length / blocks / BLOCK_MULTIPLE) * BLOCK_MULTIPLE;
  let total: Tensor | null = null;
  for (let begin = 0; begin < length; begin += blockLength) {
    const end = Math.min(begin + blockLength, length);
    const cut: Cut = (tensor, axis) => slice(graph, tensor, axis, begin, end);
    const term = cast(graph, part(cut, begin === 0 ? addend : undefined), "float32");
    total = total === null ? term : add(graph, total, term);
  }
  return cast(graph, total!, type);
}
