/** Matrix products. */

import { internalError } from "../../errors.js";
import type { Graph } from "../graph.js";
import { sumInBlocks } from "../half-sums.js";
import { broadcastShapes, formatShape, type Tensor } from "../tensor.js";
import { cast } from "./elementwise.js";
import { sumToShape } from "./reduce.js";
import { transpose } from "./shape.js";

export interface GemmOptions {
  transA?: boolean;
  transB?: boolean;
  /** Added to the product; broadcasts to its shape (a bias, or another tensor of the same shape). */
  c?: Tensor | undefined;
}

/**
 * `op(a) op(b) + c` for matrices, `op` an optional transposition, in the type of `a`.
 *
 * `b` may have another type (a float32 LoRA factor between float16 activations): it is converted, and its gradient is
 * computed in its own type.
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
    () => {
      const converted = cast(graph, b, a.dtype);
      return sumInBlocks(graph, { type: a.dtype, length: k!, terms: 1, addend: c }, (cut, addend) => {
        const operands = [cut(a, transA ? 0 : 1), cut(converted, transB ? 1 : 0)];
        return graph.node1({
          op: "Gemm",
          inputs: addend === undefined ? operands : [...operands, addend],
          attributes: { transA: transA ? 1 : 0, transB: transB ? 1 : 0 },
          outputs: [{ shape: [m!, n!], dtype: a.dtype }],
        });
      });
    },
    (dy, [wantA, wantB, wantC]) => [
      wantA ? gemmGradientA(graph, dy, b, transA, transB) : null,
      wantB ? gemmGradientB(graph, cast(graph, dy, b.dtype), cast(graph, a, b.dtype), transA, transB) : null,
      wantC ? sumToShape(graph, dy, c!.shape) : null,
    ],
  );
}

// With A' = op(A), B' = op(B) and Y = A' B': dA' = dY B'ᵀ and dB' = A'ᵀ dY; a transposed operand swaps the order.
function gemmGradientA(graph: Graph, dy: Tensor, b: Tensor, transA: boolean, transB: boolean): Tensor {
  const converted = cast(graph, b, dy.dtype);
  return transA
    ? gemm(graph, converted, dy, { transA: transB, transB: true })
    : gemm(graph, dy, converted, { transB: !transB });
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
