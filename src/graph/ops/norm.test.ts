import fc from "fast-check";
import { expect, test } from "vitest";
import { describeOperators, testOperator, testOperatorOnce } from "../../../test/helpers/check-gradient.js";
import { arrayOf, at, type ReferenceArray, sumOf } from "../../../test/helpers/reference-array.js";
import { Graph } from "../graph.js";
import * as norms from "./norm.js";

const { groupNorm, layerNorm } = norms;

/** `(x - mean) / sqrt(variance + eps)` of the `count` numbers at `begin`, in place. */
function normalize(data: Float64Array, begin: number, count: number, eps: number): void {
  const mean = sumOf(count, (i) => data[begin + i]!) / count;
  const variance = sumOf(count, (i) => (data[begin + i]! - mean) ** 2) / count;
  for (let i = 0; i < count; i++) data[begin + i] = (data[begin + i]! - mean) / Math.sqrt(variance + eps);
}

/** Normalizes every run of `count` consecutive numbers, then scales and shifts along `axis`. */
function normalized(
  x: ReferenceArray,
  count: number,
  eps: number,
  axis: number,
  gamma: ReferenceArray,
  beta: ReferenceArray,
): ReferenceArray {
  const unit = { shape: x.shape, data: x.data.slice() };
  for (let begin = 0; begin < x.data.length; begin += count) normalize(unit.data, begin, count, eps);
  return arrayOf(x.shape, (index) => {
    const channel = index[axis]!;
    return at(unit, ...index) * at(gamma, channel) + at(beta, channel);
  });
}

const silu = (x: ReferenceArray) => ({ shape: x.shape, data: x.data.map((v) => v / (1 + Math.exp(-v))) });

const EPS = 1e-5;

describeOperators(norms, {
  groupNorm: () => {
    for (const activation of [undefined, "silu"] as const) {
      testOperator(
        activation === undefined ? "alone" : "followed by SiLU",
        // At least four numbers a group: of two, the result is ±1 whatever they are, and the gradient is rounding noise.
        fc.record({
          n: fc.integer({ min: 1, max: 2 }),
          groups: fc.integer({ min: 1, max: 3 }),
          perGroup: fc.integer({ min: 1, max: 3 }),
          height: fc.integer({ min: 2, max: 4 }),
          width: fc.integer({ min: 2, max: 4 }),
          offset: fc.integer({ min: -3, max: 3 }),
        }),
        ({ n, groups, perGroup, height, width, offset }) => {
          const channels = groups * perGroup;
          return {
            inputs: {
              x: { shape: [n, channels, height, width], draw: (random) => offset + random.normal() },
              gamma: { shape: [channels], trainable: false },
              beta: { shape: [channels], trainable: false },
            },
            build: (graph, { x, gamma, beta }) =>
              groupNorm(graph, x!, gamma!, beta!, { groups, eps: EPS, activation }),
            reference: ({ x, gamma, beta }) => {
              const y = normalized(x!, perGroup * height * width, EPS, 1, gamma!, beta!);
              return activation === undefined ? y : silu(y);
            },
          };
        },
      );
    }
    testOperatorOnce("adds eps to the variance", {
      inputs: {
        x: { shape: [1, 2, 2, 3], draw: (random) => 0.3 * random.normal() },
        gamma: { shape: [2], trainable: false },
        beta: { shape: [2], trainable: false },
      },
      build: (graph, { x, gamma, beta }) => groupNorm(graph, x!, gamma!, beta!, { groups: 2, eps: 0.5 }),
      reference: ({ x, gamma, beta }) => normalized(x!, 6, 0.5, 1, gamma!, beta!),
    });
    test("refuses channels that do not divide into the groups", () => {
      const graph = new Graph();
      const x = graph.input("x", "float32", [1, 5, 2, 2]);
      const gamma = graph.input("gamma", "float32", [5]);
      expect(() => groupNorm(graph, x, gamma, gamma, { groups: 2, eps: EPS })).toThrow(
        "5 channels in 2 groups",
      );
    });
  },
  layerNorm: () => {
    testOperator(
      "over the last axis",
      fc.record({
        leading: fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 2 }),
        channels: fc.integer({ min: 4, max: 9 }),
        offset: fc.integer({ min: -3, max: 3 }),
      }),
      ({ leading, channels, offset }) => ({
        inputs: {
          x: { shape: [...leading, channels], draw: (random) => offset + random.normal() },
          gamma: { shape: [channels], trainable: false },
          beta: { shape: [channels], trainable: false },
        },
        build: (graph, { x, gamma, beta }) => layerNorm(graph, x!, gamma!, beta!, EPS),
        reference: ({ x, gamma, beta }) => normalized(x!, channels, EPS, leading.length, gamma!, beta!),
      }),
    );
    testOperatorOnce("adds eps to the variance", {
      inputs: {
        x: { shape: [2, 5], draw: (random) => 0.3 * random.normal() },
        gamma: { shape: [5], trainable: false },
        beta: { shape: [5], trainable: false },
      },
      build: (graph, { x, gamma, beta }) => layerNorm(graph, x!, gamma!, beta!, 0.5),
      reference: ({ x, gamma, beta }) => normalized(x!, 5, 0.5, 1, gamma!, beta!),
    });
  },
});
