/** Matrix products. */

import { internalError } from "../../errors.js";
import type { Graph } from "../graph.js";
import { broadcastShapes, formatShape, type Tensor } from "../tensor.js";
import { sumToShape } from "./reduce.js";
import { transpose } from "./shape.js";

export interface GemmOptions {
  transA?: boolean;
  transB?: boolean;
  /** Added to the product; broadcasts to its shape (a bias, or another tensor of the same shape). */
  c?: Tensor | undefined;
}

/**
 * `op(a) op(b) + c` for matrices, `op` an optional transposition.
 *
 * @param a - `[M, K]`, or `[K, M]` with `transA`
 * @param b - `[K, N]`, or `[N, K]` with `transB`
 * @returns `[M, N]`
 */
export function gemm(graph: Graph, a: Tensor, b: Tensor, options: GemmOptions = {}): Tensor {
  const { transA = false, transB = false, c } = options;
  const [m, k] = transA ? [a.shape[1], a.shape[0]] : [a.shape[0], a.shape[1]];
  const [inner, n] = transB ? [b.shape[1], b.shape[0]] : [b.shape[0], b.shape[1]];
  if (a.shape.length !== 2 || b.shape.length !== 2 || k !== inner) {
    throw internalError(
      `gemm of ${formatShape(a.shape)}${transA ? "ᵀ" : ""} and ${formatShape(b.shape)}${transB ? "ᵀ" : ""}`,
    );
  }
  return graph.operation1(
    "gemm",
    c === undefined ? [a, b] : [a, b, c],
    () =>
      graph.node1({
        op: "Gemm",
        inputs: c === undefined ? [a, b] : [a, b, c],
        attributes: { transA: transA ? 1 : 0, transB: transB ? 1 : 0 },
        outputs: [{ shape: [m!, n!], dtype: a.dtype }],
      }),
    (dy, [wantA, wantB, wantC]) => [
      wantA ? gemmGradientA(graph, dy, b, transA, transB) : null,
      wantB ? gemmGradientB(graph, dy, a, transA, transB) : null,
      wantC ? sumToShape(graph, dy, c!.shape) : null,
    ],
  );
}

// With A' = op(A), B' = op(B) and Y = A' B': dA' = dY B'ᵀ and dB' = A'ᵀ dY; a transposed operand swaps the order.
function gemmGradientA(graph: Graph, dy: Tensor, b: Tensor, transA: boolean, transB: boolean): Tensor {
  return transA
    ? gemm(graph, b, dy, { transA: transB, transB: true })
    : gemm(graph, dy, b, { transB: !transB });
}

function gemmGradientB(graph: Graph, dy: Tensor, a: Tensor, transA: boolean, transB: boolean): Tensor {
  return transB
    ? gemm(graph, dy, a, { transA: true, transB: transA })
    : gemm(graph, a, dy, { transA: !transA });
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
