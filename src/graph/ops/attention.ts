/** Scaled dot-product attention. */

import type { Graph } from "../graph.js";
import { operand, operandAgain, rounded } from "../half-products.js";
import type { Tensor } from "../tensor.js";
import { add, mul, scale, sub } from "./elementwise.js";
import { matmul } from "./matmul.js";
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

/** As many keys as a prompt has at most, about: a row of scores is as cheap to sum up as a row of the output. */
const FEW_KEYS = 128;

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
 * With few keys and O in float16, the row sums are taken of P dP, which they equal. The tokens of a prompt are much alike, and
 * what the gradient of a projection to keys consists of is what remains when rows of dS, which add up to zero, are summed: the
 * rounding of O was seen as 3 % of such a gradient.
 *
 * Computed in float32 whatever the types of q, k and v; the result has that of q: scores overflow float16 in Stable
 * Diffusion 2.1, and sums over thousands of keys lose their small terms.
 *
 * @param q - `[batch * L, heads * D]`
 * @param k - `[batch * S, heads * D]`
 * @param v - `[batch * S, heads * D]`
 * @returns `[batch * L, heads * D]`
 */
export function attention(graph: Graph, q: Tensor, k: Tensor, v: Tensor, shape: AttentionShape): Tensor {
  const { batch, queries, keys, heads, headDim, causal = false } = shape;
  const factor = 1 / Math.sqrt(headDim);
  const perHead = (x: Tensor, length: number, axes: readonly number[]) =>
    transpose(graph, reshape(graph, x, [batch, length, heads, headDim]), axes);
  /** `[batch * T, heads * D]` to `[batch, heads, T, D]`. */
  const rows = (x: Tensor, length: number) => perHead(x, length, [0, 2, 1, 3]);
  /** `[batch * T, heads * D]` to `[batch, heads, D, T]`. */
  const columns = (x: Tensor, length: number) => perHead(x, length, [0, 2, 3, 1]);
  const joinRows = (x: Tensor, length: number) =>
    reshape(graph, transpose(graph, x, [0, 2, 1, 3]), [batch * length, heads * headDim]);
  const joinColumns = (x: Tensor, length: number) =>
    reshape(graph, transpose(graph, x, [0, 3, 1, 2]), [batch * length, heads * headDim]);
  const masked = (scores: Tensor) => (causal ? add(graph, scores, causalMask(graph, queries, keys)) : scores);

  const output = graph.operation1(
    "attention",
    [q, k, v],
    () => {
      const [q32, k32, v32] = [q, k, v].map((x) => operand(graph, x, "float32")) as [Tensor, Tensor, Tensor];
      const scores = matmul(graph, scale(graph, rows(q32, queries), factor), columns(k32, keys));
      const attended = matmul(graph, softmax(graph, masked(scores)), rows(v32, keys));
      return rounded(graph, joinRows(attended, queries), q.dtype);
    },
    (dHalf, [wantQ, wantK, wantV]) => {
      const [q32, k32, v32] = [q, k, v].map((x) => operandAgain(graph, x, "float32")) as [
        Tensor,
        Tensor,
        Tensor,
      ];
      const dOutput = operandAgain(graph, dHalf, "float32");

      // The factor sits on k here and on q above: written alike, onnxruntime would merge the two and keep P.
      const p = softmax(
        graph,
        masked(matmul(graph, rows(q32, queries), scale(graph, columns(k32, keys), factor))),
      );
      // Products with Pᵀ and dSᵀ are taken as transposed products: only L x D matrices are ever transposed, not L x S.
      const dV = wantV
        ? rounded(graph, joinColumns(matmul(graph, columns(dOutput, queries), p), keys), v.dtype)
        : null;
      if (!wantQ && !wantK) return [null, null, dV];
      const dP = matmul(graph, rows(dOutput, queries), columns(v32, keys));
      const rowSums =
        q.dtype === "float16" && keys <= FEW_KEYS
          ? sum(graph, mul(graph, p, dP), [-1])
          : transpose(
              graph,
              sum(
                graph,
                byHead(graph, mul(graph, dOutput, operandAgain(graph, output, "float32")), shape),
                [-1],
              ),
              [0, 2, 1, 3],
            );
      const dS = mul(graph, p, sub(graph, dP, rowSums));
      return [
        wantQ
          ? rounded(
              graph,
              joinRows(scale(graph, matmul(graph, dS, rows(k32, keys)), factor), queries),
              q.dtype,
            )
          : null,
        wantK
          ? rounded(
              graph,
              joinColumns(scale(graph, matmul(graph, columns(q32, queries), dS), factor), keys),
              k.dtype,
            )
          : null,
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

/** `[L, S]`: 0 where query i may see key j, and a number below every score where it may not. */
function causalMask(graph: Graph, queries: number, keys: number): Tensor {
  const values = Array.from({ length: queries * keys }, (_, position) =>
    position % keys > Math.floor(position / keys) ? -1e30 : 0,
  );
  return graph.constant(values, "float32", [queries, keys]);
}
