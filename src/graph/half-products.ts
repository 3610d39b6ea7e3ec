/**
 * Products of float16 tensors.
 *
 * onnxruntime's WebGPU kernels (1.30) keep the sums of a float16 Gemm, MatMul or Conv in float16 and round after every
 * addition. Measured on normal numbers, the result is off by 9e-4 after 32 terms, 2.6e-3 after 320 and 5.3e-3 after 1280, where
 * the rounding of the operands alone is 2e-4; sums of ones stop growing at 2048. Through the layers of a U-Net that
 * becomes 1e-2 of its output and up to a quarter of single gradients, and cutting sums into blocks does not help enough. There
 * operands are converted to float32 and the result back: only what is kept between operators is float16.
 *
 * CUDA's libraries add float16 products up in float32, and so does the CPU: there products stay as they are.
 */

import type { Graph } from "./graph.js";
import { cast, toFloat32Again } from "./ops/elementwise.js";
import type { ElementType, Tensor } from "./tensor.js";

/**
 * `x` as an operand in `type`, in the forward pass of an operation. Several operations that read one tensor (the projections to
 * queries, keys and values) share the conversion.
 */
export function operand(graph: Graph, x: Tensor, type: ElementType): Tensor {
  if (x.dtype === type) return x;
  return graph.sharedInPass(x, type, () => cast(graph, x, type));
}

/** The same in a backward pass: see {@link toFloat32Again}. */
export function operandAgain(graph: Graph, x: Tensor, type: ElementType): Tensor {
  if (x.dtype === type) return x;
  return graph.sharedInPass(x, type, () =>
    type === "float32" ? toFloat32Again(graph, x) : cast(graph, x, type),
  );
}

/**
 * The result of an operation in the type that is kept between operations. What reads it as an {@link operand} in the same pass
 * gets `exact` itself: one conversion and one rounding less.
 */
export function rounded(graph: Graph, exact: Tensor, type: ElementType): Tensor {
  if (exact.dtype === type) return exact;
  const x = cast(graph, exact, type);
  graph.sharedInPass(x, exact.dtype, () => exact);
  return x;
}

/**
 * Computes an operation on float16 tensors in float32 where one of them was rounded in this pass: the stream of residual sums,
 * forward or backward, is then never rounded on its way, only what is kept of it.
 */
export function unroundedWherePossible(
  graph: Graph,
  operands: readonly Tensor[],
  build: (...operands: Tensor[]) => Tensor,
): Tensor {
  const { dtype } = operands[0]!;
  const wanted = graph.productType(dtype);
  if (wanted === dtype || !operands.some((x) => graph.isSharedInPass(x, wanted))) return build(...operands);
  return rounded(graph, build(...operands.map((x) => operand(graph, x, wanted))), dtype);
}

/** `x` as it was before it was rounded in this pass, where products are float32; else `x`. */
export function exactWherePossible(graph: Graph, x: Tensor): Tensor {
  const wanted = graph.productType(x.dtype);
  return graph.isSharedInPass(x, wanted) ? operand(graph, x, wanted) : x;
}

/** `x` in float32: as it was before it was {@link rounded} in this pass, if it was. An operation with a gradient. */
export function widened(graph: Graph, x: Tensor): Tensor {
  if (x.dtype === "float32") return x;
  return graph.operation1(
    "widened",
    [x],
    () => operand(graph, x, "float32"),
    (dy) => [rounded(graph, dy, x.dtype)],
  );
}
