/** Elementwise arithmetic with NumPy broadcasting. */

import type { Graph } from "../graph.js";
import { unroundedWherePossible } from "../half-products.js";
import { broadcastShapes, type ElementType, type Tensor } from "../tensor.js";
import { sumToShape } from "./reduce.js";
import { reshape } from "./shape.js";

function binary(graph: Graph, op: string, a: Tensor, b: Tensor): Tensor {
  return graph.node1({
    op,
    inputs: [a, b],
    outputs: [{ shape: broadcastShapes(a.shape, b.shape), dtype: a.dtype }],
  });
}

function unary(graph: Graph, op: string, x: Tensor): Tensor {
  return graph.node1({ op, inputs: [x], outputs: [{ shape: x.shape, dtype: x.dtype }] });
}

/** A scalar of the type of `like`. */
export function scalar(graph: Graph, value: number, like: Tensor): Tensor {
  const constant = graph.constant([value], "float32", []);
  return like.dtype === "float32" ? constant : cast(graph, constant, like.dtype);
}

/** `a + b`. */
export function add(graph: Graph, a: Tensor, b: Tensor): Tensor {
  return graph.operation1(
    "add",
    [a, b],
    () => unroundedWherePossible(graph, [a, b], (left, right) => binary(graph, "Add", left!, right!)),
    (dy, [wantA, wantB]) => [
      wantA ? sumToShape(graph, dy, a.shape) : null,
      wantB ? sumToShape(graph, dy, b.shape) : null,
    ],
  );
}

/** `a - b`. */
export function sub(graph: Graph, a: Tensor, b: Tensor): Tensor {
  return graph.operation1(
    "sub",
    [a, b],
    () => binary(graph, "Sub", a, b),
    (dy, [wantA, wantB]) => [
      wantA ? sumToShape(graph, dy, a.shape) : null,
      wantB ? sumToShape(graph, neg(graph, dy), b.shape) : null,
    ],
  );
}

/** `a * b`. */
export function mul(graph: Graph, a: Tensor, b: Tensor): Tensor {
  return graph.operation1(
    "mul",
    [a, b],
    () => unroundedWherePossible(graph, [a, b], (left, right) => binary(graph, "Mul", left!, right!)),
    // (a b)' = a' b + a b'
    (dy, [wantA, wantB]) => [
      wantA ? sumToShape(graph, mul(graph, dy, b), a.shape) : null,
      wantB ? sumToShape(graph, mul(graph, dy, a), b.shape) : null,
    ],
  );
}

/** `a / b`. */
export function div(graph: Graph, a: Tensor, b: Tensor): Tensor {
  const quotient = graph.operation1(
    "div",
    [a, b],
    () => binary(graph, "Div", a, b),
    // (a / b)' = a' / b - (a / b) b' / b
    (dy, [wantA, wantB]) => {
      const dyOverB = div(graph, dy, b);
      return [
        wantA ? sumToShape(graph, dyOverB, a.shape) : null,
        wantB ? sumToShape(graph, neg(graph, mul(graph, dyOverB, quotient)), b.shape) : null,
      ];
    },
  );
  return quotient;
}

/** `-x`. */
export function neg(graph: Graph, x: Tensor): Tensor {
  return graph.operation1(
    "neg",
    [x],
    () => unary(graph, "Neg", x),
    (dy) => [neg(graph, dy)],
  );
}

/** `factor * x` for a number known when the graph is built. */
export function scale(graph: Graph, x: Tensor, factor: number): Tensor {
  return factor === 1 ? x : mul(graph, x, scalar(graph, factor, x));
}

/** Square root. */
export function sqrt(graph: Graph, x: Tensor): Tensor {
  const root = graph.operation1(
    "sqrt",
    [x],
    () => unary(graph, "Sqrt", x),
    (dy) => [div(graph, scale(graph, dy, 0.5), root)],
  );
  return root;
}

/** `exp(x)`. */
export function exp(graph: Graph, x: Tensor): Tensor {
  const power = graph.operation1(
    "exp",
    [x],
    () => unary(graph, "Exp", x),
    (dy) => [mul(graph, dy, power)],
  );
  return power;
}

/** `1 / (1 + exp(-x))`. */
export function sigmoid(graph: Graph, x: Tensor): Tensor {
  const s = graph.operation1(
    "sigmoid",
    [x],
    () => unary(graph, "Sigmoid", x),
    // s' = s (1 - s)
    (dy) => [mul(graph, dy, sub(graph, s, mul(graph, s, s)))],
  );
  return s;
}

/** Gauss error function. */
export function erf(graph: Graph, x: Tensor): Tensor {
  return graph.operation1(
    "erf",
    [x],
    () => unary(graph, "Erf", x),
    // erf' = 2 / sqrt(pi) exp(-x²)
    (dy) => [mul(graph, dy, scale(graph, exp(graph, neg(graph, mul(graph, x, x))), 2 / Math.sqrt(Math.PI)))],
  );
}

/** The same values in another element type. The gradient is cast back. */
export function cast(graph: Graph, x: Tensor, dtype: ElementType): Tensor {
  if (x.dtype === dtype) return x;
  return graph.operation1(
    "cast",
    [x],
    () =>
      graph.node1({
        op: "Cast",
        inputs: [x],
        attributes: { to: ONNX_ELEMENT_TYPE[dtype] },
        outputs: [{ shape: x.shape, dtype }],
      }),
    (dy) => [cast(graph, dy, x.dtype)],
  );
}

/**
 * `x` in float32, in a backward pass. Converted by the same node as in the forward pass, the two would be merged by
 * onnxruntime (common-subexpression elimination) and the float32 copy kept in between.
 */
export function toFloat32Again(graph: Graph, x: Tensor): Tensor {
  if (x.dtype === "float32") return x;
  const behind = reshape(graph, x, [1, ...x.shape]);
  return reshape(graph, cast(graph, behind, "float32"), x.shape);
}

/** Element type numbers of onnx.proto, `TensorProto.DataType`. */
export const ONNX_ELEMENT_TYPE: Readonly<Record<ElementType, number>> = {
  float32: 1,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  bfloat16: 16,
};
