/** Scaled dot-product attention. */

import type { Graph } from "../graph.js";
import type { Tensor } from "../tensor.js";
import { add, mul, scale, sub } from "./elementwise.js";
import { matmul, swapLast } from "./matmul.js";
import { sum } from "./reduce.js";
import { reshape, transpose } from "./shape.js";

export interface AttentionShape {
  batch: number;
  /** Number of queries per sample, `L`. */
  queries: number;
  /** Number of keys per sample, `S`. */
  keys: number;
  heads: number;
  /** Channels of one head, `D`. */
  headDim: number;
  /** Query `i` sees keys `0..i` only. */
  causal?: boolean;
}

/** Softmax over the last axis. */
export function softmax(graph: Graph, x: Tensor): Tensor {
  const p = graph.operation1(
    "softmax",
    [x],
    () =>
      graph.node1({
        op: "Softmax",
        inputs: [x],
        attributes: { axis: -1 },
        outputs: [{ shape: x.shape, dtype: x.dtype }],
      }),
    // dx = p (dy - Σ dy p)
    (dy) => [mul(graph, p, sub(graph, dy, sum(graph, mul(graph, dy, p), [-1])))],
  );
  return p;
}

/**
 * `softmax(q kᵀ / sqrt(D)) v` per head (Vaswani et al. 2017, arXiv:1706.03762).
 *
 * The probabilities are computed again in the backward pass: kept, they would be by far the largest tensors of a U-Net.
 * With O = P V: dV = Pᵀ dO, dP = dO Vᵀ, dS = P (dP - rowsum(dO O)), dQ = dS K, dK = dSᵀ Q (Dao et al. 2022,
 * arXiv:2205.14135, appendix B).
 *
 * @param q - `[batch * L, heads * D]`
 * @param k - `[batch * S, heads * D]`
 * @param v - `[batch * S, heads * D]`
 * @returns `[batch * L, heads * D]`
 */
export function attention(graph: Graph, q: Tensor, k: Tensor, v: Tensor, shape: AttentionShape): Tensor {
  const { batch, queries, keys, heads, headDim, causal = false } = shape;
  const factor = 1 / Math.sqrt(headDim);
  // [batch * T, heads * D] to [batch, heads, T, D] and back
  const split = (x: Tensor, length: number) =>
    transpose(graph, reshape(graph, x, [batch, length, heads, headDim]), [0, 2, 1, 3]);
  const join = (x: Tensor, length: number) =>
    reshape(graph, transpose(graph, x, [0, 2, 1, 3]), [batch * length, heads * headDim]);
  const masked = (scores: Tensor) => (causal ? add(graph, scores, causalMask(graph, queries, keys)) : scores);

  const output = graph.operation1(
    "attention",
    [q, k, v],
    () => {
      const scores = matmul(graph, scale(graph, split(q, queries), factor), swapLast(graph, split(k, keys)));
      return join(matmul(graph, softmax(graph, masked(scores)), split(v, keys)), queries);
    },
    (dOutput, [wantQ, wantK, wantV]) => {
      // The factor sits on k here and on q above: written alike, onnxruntime would merge the two and keep P.
      const queriesByHead = split(q, queries);
      const scaledKeys = scale(graph, split(k, keys), factor);
      const p = softmax(graph, masked(matmul(graph, queriesByHead, swapLast(graph, scaledKeys))));
      const dO = split(dOutput, queries);
      const dV = wantV ? join(matmul(graph, swapLast(graph, p), dO), keys) : null;
      if (!wantQ && !wantK) return [null, null, dV];
      const rowSums = split1(graph, sum(graph, byHead(graph, mul(graph, dOutput, output), shape), [-1]));
      const dP = matmul(graph, dO, swapLast(graph, split(v, keys)));
      const dS = mul(graph, p, sub(graph, dP, rowSums));
      return [
        wantQ ? join(matmul(graph, dS, scaledKeys), queries) : null,
        wantK ? join(scale(graph, matmul(graph, swapLast(graph, dS), queriesByHead), factor), keys) : null,
        dV,
      ];
    },
  );
  return output;
}

/** `[batch * L, heads * D]` to `[batch, L, heads, D]`. */
function byHead(graph: Graph, x: Tensor, { batch, queries, heads, headDim }: AttentionShape): Tensor {
  return reshape(graph, x, [batch, queries, heads, headDim]);
}

/** `[batch, L, heads, 1]` to `[batch, heads, L, 1]`. */
function split1(graph: Graph, x: Tensor): Tensor {
  return transpose(graph, x, [0, 2, 1, 3]);
}

/** `[L, S]`: 0 where query i may see key j, and a number below every score where it may not. */
function causalMask(graph: Graph, queries: number, keys: number): Tensor {
  const values = Array.from({ length: queries * keys }, (_, position) =>
    position % keys > Math.floor(position / keys) ? -1e30 : 0,
  );
  return graph.constant(values, "float32", [queries, keys]);
}
