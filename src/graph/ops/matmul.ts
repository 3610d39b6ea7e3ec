/** Matrix products. */

import { internalError } from "../../errors.js";
import type { Graph } from "../graph.js";
import { operand, operandAgain, rounded } from "../half-products.js";
import { broadcastShapes, type ElementType, formatShape, type Tensor } from "../tensor.js";
import { cast } from "./elementwise.js";
import { sumToShape } from "./reduce.js";
import { transpose } from "./shape.js";

export interface GemmOptions {
  transA?: boolean;
  transB?: boolean;
  /** Added to the product; broadcasts to its shape (a bias, or another tensor of the same shape). */
  c?: Tensor | undefined;
  /** Type of the result; default: that of `a`. */
  result?: ElementType | undefined;
}

/**
 * `op(a) op(b) + c` for matrices, `op` an optional transposition.
 *
 * The operands may have different types (float16 activations, a float32 LoRA factor). The product is computed in
 * {@link Graph.productType} of `a`, the gradient of each operand in its own type if that has more digits.
 *
 * @param a - `[M, K]`, or `[K, M]` with `transA`
 * @param b - `[K, N]`, or `[N, K]` with `transB`
 * @returns `[M, N]`
 */
export function gemm(graph: Graph, a: Tensor, b: Tensor, options: GemmOptions = {}): Tensor {
  const { transA = false, transB = false, c, result = a.dtype } = options;
  const [m, k] = transA ? [a.shape[1], a.shape[0]] : [a.shape[0], a.shape[1]];
  const [inner, n] = transB ? [b.shape[1], b.shape[0]] : [b.shape[0], b.shape[1]];
  if (a.shape.length !== 2 || b.shape.length !== 2 || k !== inner) {
    throw internalError(
      `gemm of ${formatShape(a.shape)}${transA ? "ᵀ" : ""} and ${formatShape(b.shape)}${transB ? "ᵀ" : ""}`,
    );
  }
  const type = graph.productType(a.dtype);
  return graph.operation1(
    "gemm",
    c === undefined ? [a, b] : [a, b, c],
    () => {
      const operands = (c === undefined ? [a, b] : [a, b, c]).map((x) => operand(graph, x, type));
      const product = graph.node1({
        op: "Gemm",
        inputs: operands,
        attributes: { transA: transA ? 1 : 0, transB: transB ? 1 : 0 },
        outputs: [{ shape: [m!, n!], dtype: type }],
      });
      return rounded(graph, product, result);
    },
    (dy, [wantA, wantB, wantC]) => [
      wantA ? gemmGradientA(graph, dy, a, b, transA, transB) : null,
      wantB ? gemmGradientB(graph, dy, a, b, transA, transB) : null,
      wantC ? cast(graph, sumToShape(graph, dy, c!.shape), c!.dtype) : null,
    ],
  );
}

// With A' = op(A), B' = op(B) and Y = A' B': dA' = dY B'ᵀ and dB' = A'ᵀ dY; a transposed operand swaps the order.
function gemmGradientA(
  graph: Graph,
  dy: Tensor,
  a: Tensor,
  b: Tensor,
  transA: boolean,
  transB: boolean,
): Tensor {
  const type = graph.productType(a.dtype);
  const [left, right] = [operandAgain(graph, dy, type), operandAgain(graph, b, type)];
  return transA
    ? gemm(graph, right, left, { transA: transB, transB: true, result: a.dtype })
    : gemm(graph, left, right, { transB: !transB, result: a.dtype });
}

function gemmGradientB(
  graph: Graph,
  dy: Tensor,
  a: Tensor,
  b: Tensor,
  transA: boolean,
  transB: boolean,
): Tensor {
  const type = graph.productType(b.dtype);
  const [left, right] = [operandAgain(graph, a, type), operandAgain(graph, dy, type)];
  return transB
    ? gemm(graph, right, left, { transA: true, transB: transA, result: b.dtype })
    : gemm(graph, left, right, { transA: !transA, result: b.dtype });
}

/**
 * Product of two stacks of matrices.
 *
 * @param a - `[..., M, K]`
 * @param b - `[..., K, N]`; leading axes broadcast
 * @returns `[..., M, N]`
 */
export function matmul(graph: Graph, a: Tensor, b: Tensor): Tensor {
  const [m, k] = a.shape.slice(-2);
  const [inner, n] = b.shape.slice(-2);
  if (k !== inner) throw internalError(`matmul of ${formatShape(a.shape)} and ${formatShape(b.shape)}`);
  const shape = [...broadcastShapes(a.shape.slice(0, -2), b.shape.slice(0, -2)), m!, n!];
  return graph.operation1(
    "matmul",
    [a, b],
    () => graph.node1({ op: "MatMul", inputs: [a, b], outputs: [{ shape, dtype: a.dtype }] }),
    (dy, [wantA, wantB]) => [
      wantA ? sumToShape(graph, matmul(graph, dy, swapLast(graph, b)), a.shape) : null,
      wantB ? sumToShape(graph, matmul(graph, swapLast(graph, a), dy), b.shape) : null,
    ],
  );
}

/** The last two axes exchanged. */
export function swapLast(graph: Graph, x: Tensor): Tensor {
  const axes = x.shape.map((_, axis) => axis);
  const last = axes.length - 1;
  return transpose(graph, x, [...axes.slice(0, -2), last, last - 1]);
}
