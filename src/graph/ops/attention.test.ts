import fc from "fast-check";
import {
  describeOperators,
  type OperatorCheck,
  testOperator,
  testOperatorOnce,
} from "../../../test/helpers/check-gradient.js";
import { arrayOf, type ReferenceArray, sumOf } from "../../../test/helpers/reference-array.js";
import * as attentions from "./attention.js";
import { mul } from "./elementwise.js";

const { attention, softmax } = attentions;
type AttentionShape = attentions.AttentionShape;

/** `exp(scores[i]) / Σ exp(scores)`. */
function probabilities(scores: readonly number[]): number[] {
  const largest = Math.max(...scores);
  const powers = scores.map((score) => Math.exp(score - largest));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}

function referenceSoftmax(x: ReferenceArray): ReferenceArray {
  const width = x.shape.at(-1)!;
  const data = new Float64Array(x.data.length);
  for (let row = 0; row < data.length; row += width) {
    data.set(probabilities([...x.data.subarray(row, row + width)]), row);
  }
  return { shape: x.shape, data };
}

function referenceAttention(
  q: ReferenceArray,
  k: ReferenceArray,
  v: ReferenceArray,
  shape: AttentionShape,
): ReferenceArray {
  const { batch, queries, keys, heads, headDim, causal = false } = shape;
  const width = heads * headDim;
  const result = arrayOf([batch * queries, width], () => 0);
  for (let b = 0; b < batch; b++) {
    for (let head = 0; head < heads; head++) {
      for (let i = 0; i < queries; i++) {
        // Where this head's channels begin in the row of query i, and of key j.
        const query = (b * queries + i) * width + head * headDim;
        const key = (j: number) => (b * keys + j) * width + head * headDim;
        const seen = causal ? Math.min(i + 1, keys) : keys;
        const score = (j: number) =>
          sumOf(headDim, (d) => q.data[query + d]! * k.data[key(j) + d]!) / Math.sqrt(headDim);
        const p = probabilities(Array.from({ length: seen }, (_, j) => score(j)));
        for (let d = 0; d < headDim; d++) {
          result.data[query + d] = sumOf(seen, (j) => p[j]! * v.data[key(j) + d]!);
        }
      }
    }
  }
  return result;
}

const small = fc.integer({ min: 1, max: 3 });
const length = fc.integer({ min: 2, max: 5 });

function check(shape: AttentionShape): OperatorCheck {
  const { batch, queries, keys, heads, headDim } = shape;
  return {
    inputs: {
      q: { shape: [batch * queries, heads * headDim] },
      k: { shape: [batch * keys, heads * headDim] },
      v: { shape: [batch * keys, heads * headDim] },
    },
    build: (graph, { q, k, v }) => attention(graph, q!, k!, v!, shape),
    reference: ({ q, k, v }) => referenceAttention(q!, k!, v!, shape),
  };
}

describeOperators(attentions, {
  softmax: () => {
    testOperator("over the last axis", fc.array(length, { minLength: 1, maxLength: 4 }), (shape) => ({
      inputs: { x: { shape, draw: (random) => 2 * random.normal() } },
      build: (graph, { x }) => softmax(graph, x!),
      reference: ({ x }) => referenceSoftmax(x!),
    }));
    testOperatorOnce("of scores far outside the range of exp", {
      inputs: { x: { shape: [2, 4], draw: (random) => 1000 + random.normal() } },
      build: (graph, { x }) => softmax(graph, x!),
      reference: ({ x }) => referenceSoftmax(x!),
    });
  },
  attention: () => {
    const common = { batch: fc.integer({ min: 1, max: 2 }), heads: small, headDim: small };
    testOperator(
      "of a sequence to itself",
      fc
        .record({ ...common, length })
        .map(({ length, ...rest }) => ({ ...rest, queries: length, keys: length })),
      check,
    );
    testOperator("of a sequence to another", fc.record({ ...common, queries: length, keys: length }), check);
    testOperator(
      "causal",
      fc
        .record({ ...common, length })
        .map(({ length, ...rest }) => ({ ...rest, queries: length, keys: length, causal: true })),
      check,
    );
    testOperatorOnce(
      "of sizes past the vector and tile widths of the kernels",
      check({ batch: 1, queries: 37, keys: 20, heads: 2, headDim: 8 }),
    );
    testOperator(
      "in strips of queries, the last one shorter or not",
      fc
        .record({ ...common, length, causal: fc.boolean(), queriesAtOnce: small })
        .map(({ length, ...rest }) => ({ ...rest, queries: length, keys: length })),
      check,
    );
    const shape = { batch: 2, queries: 3, keys: 3, heads: 2, headDim: 2 };
    testOperatorOnce("queries, keys and values from one tensor", {
      inputs: { x: { shape: [6, 4] } },
      build: (graph, { x }) => attention(graph, x!, mul(graph, x!, x!), x!, shape),
      reference: ({ x }) =>
        referenceAttention(x!, { shape: x!.shape, data: x!.data.map((value) => value * value) }, x!, shape),
    });
  },
});
