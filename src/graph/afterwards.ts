/** Order of execution where the values alone do not decide it. */

import type { Graph } from "./graph.js";
import { add, cast, mul, scalar } from "./ops/elementwise.js";
import { reshape, slice } from "./ops/shape.js";
import { elementCount, fixedShape, type Tensor } from "./tensor.js";

/**
 * Copies of tensors that cannot be had before the signals.
 *
 * Built from the tensors themselves, what is computed a second time would be the same nodes as the first time: onnxruntime merges
 * them (common-subexpression elimination), and all values are kept after all. Nor would it wait for the signals.
 *
 * @param signals - tensors of finite numbers
 */
export function afterwards(
  graph: Graph,
  tensors: readonly Tensor[],
  signals: readonly Tensor[],
): Map<Tensor, Tensor> {
  const first = signals
    .map((signal) => slice(graph, reshape(graph, signal, [elementCount(fixedShape(signal.shape))]), 0, 0, 1))
    .reduce((sum, number) => add(graph, sum, number));
  const one = add(graph, mul(graph, first, scalar(graph, 0, first)), scalar(graph, 1, first));
  return new Map(tensors.map((tensor) => [tensor, mul(graph, tensor, cast(graph, one, tensor.dtype))]));
}
