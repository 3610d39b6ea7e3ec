/** Sums and means over axes. */

import type { Graph } from "../graph.js";
import { type Dim, fixedShape, normalizeAxis, type Shape, sameShape, type Tensor } from "../tensor.js";
import { cast, mul, scale } from "./elementwise.js";
import { expand, reshape } from "./shape.js";

function reduced(shape: Shape, axes: readonly number[], keepDims: boolean): Dim[] {
  const result: Dim[] = [];
  for (const [axis, dim] of shape.entries()) {
    if (!axes.includes(axis)) result.push(dim);
    else if (keepDims) result.push(1);
  }
  return result;
}

/** In float32 where x is float16: in WebGPU's kernels (onnxruntime 1.30) a sum of 4096 normal numbers is off by 5e-3. */
function reduceNode(graph: Graph, op: string, x: Tensor, axes: readonly number[], keepDims: boolean): Tensor {
  const terms = x.dtype === "float16" ? cast(graph, x, "float32") : x;
  const total = graph.node1({
    op,
    inputs: [terms, graph.constant(axes, "int64")],
    attributes: { keepdims: keepDims ? 1 : 0 },
    outputs: [{ shape: reduced(x.shape, axes, keepDims), dtype: terms.dtype }],
  });
  return cast(graph, total, x.dtype);
}

/**
 * Sum over `axes` (default: all).
 *
 * @param keepDims - keep the summed axes with length 1 (default true)
 */
export function sum(graph: Graph, x: Tensor, axes?: readonly number[], keepDims = true): Tensor {
  const over = (axes ?? x.shape.map((_, axis) => axis)).map((axis) => normalizeAxis(axis, x.shape.length));
  if (over.length === 0) return x;
  return graph.operation1(
    "sum",
    [x],
    () => reduceNode(graph, "ReduceSum", x, over, keepDims),
    (dy) => [expand(graph, keepDims ? dy : reshape(graph, dy, reduced(x.shape, over, true)), x.shape)],
  );
}

/** Mean over `axes` of fixed length; see {@link sum}. */
export function mean(graph: Graph, x: Tensor, axes: readonly number[], keepDims = true): Tensor {
  const over = axes.map((axis) => normalizeAxis(axis, x.shape.length));
  const count = fixedShape(over.map((axis) => x.shape[axis]!)).reduce((product, dim) => product * dim, 1);
  return graph.operation1(
    "mean",
    [x],
    () => reduceNode(graph, "ReduceMean", x, over, keepDims),
    (dy) => {
      const spread = keepDims ? dy : reshape(graph, dy, reduced(x.shape, over, true));
      return [expand(graph, scale(graph, spread, 1 / count), x.shape)];
    },
  );
}

/** Sum of squares over `axes`, which are kept with length 1. */
export function sumOfSquares(graph: Graph, x: Tensor, axes: readonly number[]): Tensor {
  const over = axes.map((axis) => normalizeAxis(axis, x.shape.length));
  return graph.operation1(
    "sumOfSquares",
    [x],
    () => reduceNode(graph, "ReduceSumSquare", x, over, true),
    (dy) => [mul(graph, x, scale(graph, dy, 2))],
  );
}

/** Undoes broadcasting: sums `x` over the axes along which `shape` was stretched to the shape of `x`. */
export function sumToShape(graph: Graph, x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return x;
  const added = x.shape.length - shape.length;
  const axes = x.shape.flatMap((dim, axis) =>
    axis < added || (shape[axis - added] === 1 && dim !== 1) ? [axis] : [],
  );
  return reshape(graph, sum(graph, x, axes), shape);
}
