import { describe, expect, test } from "vitest";
import { Graph } from "../graph.js";
import { cast, exp, mul, neg, sigmoid } from "../ops/elementwise.js";
import { sum } from "../ops/reduce.js";
import { reshape, split } from "../ops/shape.js";
import { ELEMENT_SIZE_BYTES, elementCount, type Tensor } from "../tensor.js";
import { peakBytes } from "./buffer-plan.js";
import { executionOrder } from "./execution-order.js";

const N = 100;
const BYTES = 4 * N;

/** Peak of the graph that `build` makes of an input of {@link N} numbers; it returns the outputs. */
function peakOf(build: (graph: Graph, x: Tensor) => readonly Tensor[]): number {
  const graph = new Graph();
  const outputs = build(graph, graph.input("x", "float32", [N]));
  return peakBytes(
    executionOrder(graph.nodes),
    new Set(outputs),
    ({ shape, dtype }) => elementCount(shape) * ELEMENT_SIZE_BYTES[dtype],
  );
}

describe("peakBytes", () => {
  test("frees a result after its last reader", () => {
    expect(peakOf((graph, x) => [neg(graph, x)])).toBe(BYTES);
    expect(peakOf((graph, x) => [neg(graph, exp(graph, x))])).toBe(2 * BYTES);
    expect(peakOf((graph, x) => [neg(graph, exp(graph, neg(graph, exp(graph, x))))])).toBe(2 * BYTES);
  });

  test("keeps a result for a later reader", () => {
    const withSkip = peakOf((graph, x) => {
      const skip = exp(graph, x);
      return [mul(graph, neg(graph, neg(graph, skip)), skip)];
    });
    expect(withSkip).toBe(3 * BYTES);
  });

  test("never frees outputs", () => {
    expect(peakOf((graph, x) => [0, 1, 2].map(() => exp(graph, x)))).toBe(3 * BYTES);
  });

  test("a view is its input's buffer, an output that is a view is a copy", () => {
    const viewed = (graph: Graph, x: Tensor) => reshape(graph, exp(graph, x), [N / 2, 2]);
    expect(peakOf((graph, x) => [sum(graph, viewed(graph, x))])).toBe(BYTES + 4);
    expect(peakOf((graph, x) => [viewed(graph, x)])).toBe(2 * BYTES);
    expect(peakOf((graph, x) => [sum(graph, reshape(graph, x, [N / 2, 2]))])).toBe(4);
  });

  test("a buffer is freed when its last view is read", () => {
    const peak = peakOf((graph, x) => {
      const a = exp(graph, x);
      const early = sum(graph, reshape(graph, a, [N / 2, 2]), undefined, false);
      const late = sum(graph, reshape(graph, a, [2, N / 2]), undefined, false);
      return [mul(graph, early, late)];
    });
    expect(peak).toBe(BYTES + 8);
  });

  test("Sigmoid, Softmax and casts of equal size overwrite an input that nobody else reads", () => {
    const summed = (operator: (graph: Graph, a: Tensor) => Tensor) =>
      peakOf((graph, x) => {
        const y = operator(graph, exp(graph, x));
        return [graph.node1({ op: "ReduceMax", inputs: [y], outputs: [{ shape: [1], dtype: y.dtype }] })];
      });
    expect(summed(neg)).toBe(2 * BYTES);
    expect(summed(sigmoid)).toBe(BYTES + 4);
    expect(summed((graph, a) => cast(graph, a, "int32"))).toBe(BYTES + 4);
    expect(summed((graph, a) => cast(graph, a, "float16"))).toBe(1.5 * BYTES);
    const readTwice = peakOf((graph, x) => {
      const a = exp(graph, x);
      return [sum(graph, mul(graph, a, sigmoid(graph, a)))];
    });
    expect(readTwice).toBe(3 * BYTES);
  });

  test("a buffer that is taken over later by a result of its shape stays allocated in between", () => {
    const withLater = (later: number[]) => {
      const graph = new Graph();
      const x = graph.input("x", "float32", [N]);
      const big = graph.input("big", "float32", [3, N]);
      const last = graph.input("last", "float32", later);
      const first = sum(graph, exp(graph, x), undefined, false);
      const middle = sum(graph, mul(graph, big, first), undefined, false);
      const y = sum(graph, mul(graph, last, middle));
      const sizeOf = ({ shape }: Tensor) => 4 * elementCount(shape);
      return peakBytes(executionOrder(graph.nodes), new Set([y]), sizeOf);
    };
    // While the middle's three rows are there: one scalar, and with the same shape also the buffer that waits.
    expect(withLater([2, N / 2])).toBe(3 * BYTES + 4);
    expect(withLater([N])).toBe(4 * BYTES + 4);
  });

  test("a result that nobody reads stays allocated to the end", () => {
    const peak = peakOf((graph, x) => {
      const [, used] = split(graph, x, 0, [N / 4, (3 * N) / 4]);
      return [neg(graph, neg(graph, used!))];
    });
    expect(peak).toBe(BYTES / 4 + 2 * 0.75 * BYTES);
  });
});
