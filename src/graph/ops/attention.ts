/** Scaled dot-product attention. */

import { afterwards } from "../afterwards.js";
import type { Graph } from "../graph.js";
import { operand, operandAgain, rounded } from "../half-products.js";
import type { Tensor } from "../tensor.js";
import { add, mul, scalar, scale, sub } from "./elementwise.js";
import { matmul } from "./matmul.js";
import { sum } from "./reduce.js";
import { concat, expand, reshape, split, transpose } from "./shape.js";

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
  /** Queries of every sample that are worked on at once; default: as many as have room in a processor's cache. */
  queriesAtOnce?: number;
}

/** Scores that are worked on at once take about this much memory, a cache's worth of it. */
const STRIP_BYTES = 16 * 2 ** 20;
/** With fewer queries at once products take longer than memory. */
const FEWEST_QUERIES = 256;

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
 * arXiv:2205.14135, appendix B). The row sums are subtracted inside the product: dO gets them as one more column, V a column of -1.
 *
 * Queries are taken in strips, so that the scores of one strip stay in the cache: at 4096 tokens that takes half the time, and a
 * sixteenth of the memory.
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
  const output = graph.operation1(
    "attention",
    [q, k, v],
    () => {
      const [q32, k32, v32] = [q, k, v].map((x) => operand(graph, x, "float32")) as [Tensor, Tensor, Tensor];
      return rounded(graph, attend(graph, q32, k32, v32, shape), q.dtype);
    },
    (dOutput, [wantQ, wantK, wantV]) => {
      const [q32, k32, v32, o, dO] = [q, k, v, output, dOutput].map((x) =>
        operandAgain(graph, x, "float32"),
      ) as [Tensor, Tensor, Tensor, Tensor, Tensor];
      const { dQ, dK, dV } = attentionGradients(graph, { q: q32, k: k32, v: v32, o, dO }, shape, {
        q: wantQ === true,
        k: wantK === true,
        v: wantV === true,
        sumsOfProbabilities: q.dtype === "float16" && shape.keys <= FEW_KEYS,
      });
      return [
        dQ && rounded(graph, dQ, q.dtype),
        dK && rounded(graph, dK, k.dtype),
        dV && rounded(graph, dV, v.dtype),
      ];
    },
  );
  return output;
}

function attend(graph: Graph, q: Tensor, k: Tensor, v: Tensor, shape: AttentionShape): Tensor {
  const { queries, keys, headDim } = shape;
  const keyColumns = byColumns(graph, k, keys, shape);
  const values = byRows(graph, v, keys, shape);
  const scaled = scale(graph, byRows(graph, q, queries, shape), 1 / Math.sqrt(headDim));
  const strips = stripsOf(shape);
  const attended = inStrips(graph, scaled, 2, strips).map((rows, strip) => {
    const scores = masked(graph, matmul(graph, rows, keyColumns), strips, strip, shape);
    return matmul(graph, softmax(graph, scores), values);
  });
  return joinRows(graph, concat(graph, attended, 2), queries, shape);
}

interface Wanted {
  q: boolean;
  k: boolean;
  v: boolean;
  /** Take the sums of rows of P dP, not of dO O. */
  sumsOfProbabilities: boolean;
}

function attentionGradients(
  graph: Graph,
  { q, k, v, o, dO }: Readonly<Record<"q" | "k" | "v" | "o" | "dO", Tensor>>,
  shape: AttentionShape,
  wanted: Wanted,
): { dQ: Tensor | null; dK: Tensor | null; dV: Tensor | null } {
  const { queries, keys, headDim } = shape;
  const factor = 1 / Math.sqrt(headDim);
  const strips = stripsOf(shape);
  const strip = (x: Tensor, axis: number) => inStrips(graph, x, axis, strips);
  // The factor sits on k here and on q above: written alike, onnxruntime would merge the two and keep P.
  const keyColumns = scale(graph, byColumns(graph, k, keys, shape), factor);
  const keyRows = byRows(graph, k, keys, shape);
  const queryRows = strip(byRows(graph, q, queries, shape), 2);
  const queryColumns = strip(byColumns(graph, q, queries, shape), 3);
  const { outputs, values } = wanted.sumsOfProbabilities
    ? { outputs: byRows(graph, dO, queries, shape), values: byColumns(graph, v, keys, shape) }
    : withRowSums(graph, { o, dO, v }, shape);
  const outputRows = strip(outputs, 2);
  const outputColumns = strip(byColumns(graph, dO, queries, shape), 3);

  const dQs: Tensor[] = [];
  let dK: Tensor | null = null;
  let dV: Tensor | null = null;
  const sumUp = (sumSoFar: Tensor | null, term: Tensor) =>
    sumSoFar === null ? term : add(graph, sumSoFar, term);
  for (let index = 0; index < strips.length; index++) {
    // One strip after the other: else onnxruntime would finish dQ of all of them first, and keep what dK and dV need.
    const signals = [dQs.at(-1), dK, dV].filter((x): x is Tensor => x !== null && x !== undefined);
    const [rows, dRows] = [queryRows[index]!, outputRows[index]!];
    const delayed = index === 0 ? new Map<Tensor, Tensor>() : afterwards(graph, [rows, dRows], signals);
    const scores = matmul(graph, delayed.get(rows) ?? rows, keyColumns);
    const p = softmax(graph, masked(graph, scores, strips, index, shape));
    // Products with Pᵀ and dSᵀ are taken as transposed products: only L x D matrices are ever transposed, not L x S.
    if (wanted.v) dV = sumUp(dV, matmul(graph, outputColumns[index]!, p));
    if (!wanted.q && !wanted.k) continue;
    const dP = matmul(graph, delayed.get(dRows) ?? dRows, values);
    const centred = wanted.sumsOfProbabilities ? sub(graph, dP, sum(graph, mul(graph, p, dP), [-1])) : dP;
    const dS = mul(graph, p, centred);
    if (wanted.q) dQs.push(matmul(graph, dS, keyRows));
    if (wanted.k) dK = sumUp(dK, matmul(graph, queryColumns[index]!, dS));
  }
  return {
    dQ: wanted.q ? joinRows(graph, scale(graph, concat(graph, dQs, 2), factor), queries, shape) : null,
    dK: dK && joinColumns(graph, scale(graph, dK, factor), keys, shape),
    dV: dV && joinColumns(graph, dV, keys, shape),
  };
}

/** dO and V with one more column each, whose product is minus the row sums of dO O. */
function withRowSums(
  graph: Graph,
  { o, dO, v }: Readonly<Record<"o" | "dO" | "v", Tensor>>,
  shape: AttentionShape,
): { outputs: Tensor; values: Tensor } {
  const { batch, queries, keys, heads } = shape;
  const sums = sum(graph, byHead(graph, mul(graph, dO, o), queries, shape), [-1]);
  const withSums = concat(graph, [byHead(graph, dO, queries, shape), sums], 3);
  const minusOne = reshape(graph, scalar(graph, -1, v), [1, 1, 1, 1]);
  return {
    outputs: transpose(graph, withSums, [0, 2, 1, 3]),
    values: concat(
      graph,
      [byColumns(graph, v, keys, shape), expand(graph, minusOne, [batch, heads, 1, keys])],
      2,
    ),
  };
}

/** Numbers of queries that are worked on at once, behind each other. */
function stripsOf({ batch, queries, keys, heads, queriesAtOnce }: AttentionShape): number[] {
  const bytesPerQuery = batch * heads * keys * Float32Array.BYTES_PER_ELEMENT;
  const most = queriesAtOnce ?? Math.max(FEWEST_QUERIES, Math.floor(STRIP_BYTES / bytesPerQuery));
  const length = Math.ceil(queries / Math.ceil(queries / most));
  const strips: number[] = [];
  for (let rest = queries; rest > 0; rest -= length) strips.push(Math.min(length, rest));
  return strips;
}

function inStrips(graph: Graph, x: Tensor, axis: number, strips: readonly number[]): readonly Tensor[] {
  return strips.length === 1 ? [x] : split(graph, x, axis, strips);
}

/** `[batch * T, heads * D]` to `[batch, heads, T, D]`. */
function byRows(graph: Graph, x: Tensor, length: number, shape: AttentionShape): Tensor {
  return transpose(graph, byHead(graph, x, length, shape), [0, 2, 1, 3]);
}

/** `[batch * T, heads * D]` to `[batch, heads, D, T]`. */
function byColumns(graph: Graph, x: Tensor, length: number, shape: AttentionShape): Tensor {
  return transpose(graph, byHead(graph, x, length, shape), [0, 2, 3, 1]);
}

function byHead(graph: Graph, x: Tensor, length: number, { batch, heads, headDim }: AttentionShape): Tensor {
  return reshape(graph, x, [batch, length, heads, headDim]);
}

/** The inverse of {@link byRows}. */
function joinRows(graph: Graph, x: Tensor, length: number, shape: AttentionShape): Tensor {
  return joined(graph, transpose(graph, x, [0, 2, 1, 3]), length, shape);
}

/** The inverse of {@link byColumns}. */
function joinColumns(graph: Graph, x: Tensor, length: number, shape: AttentionShape): Tensor {
  return joined(graph, transpose(graph, x, [0, 3, 1, 2]), length, shape);
}

function joined(graph: Graph, x: Tensor, length: number, { batch, heads, headDim }: AttentionShape): Tensor {
  return reshape(graph, x, [batch * length, heads * headDim]);
}

/** Scores of a strip; where a query may not see a key, a number below every score. */
function masked(
  graph: Graph,
  scores: Tensor,
  strips: readonly number[],
  strip: number,
  { keys, causal = false }: AttentionShape,
): Tensor {
  if (!causal) return scores;
  const first = strips.slice(0, strip).reduce((total, length) => total + length, 0);
  const values = Array.from({ length: strips[strip]! * keys }, (_, position) =>
    position % keys > first + Math.floor(position / keys) ? -1e30 : 0,
  );
  return add(graph, scores, graph.constant(values, "float32", [strips[strip]!, keys]));
}
