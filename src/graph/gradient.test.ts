import { describe, expect, test } from "vitest";
import { testOperatorOnce } from "../../test/helpers/check-gradient.js";
import { map, type ReferenceArray } from "../../test/helpers/reference-array.js";
import { checkpoint, gradients } from "./gradient.js";
import { Graph } from "./graph.js";
import { lowerToOnnx } from "./onnx/lower.js";
import { silu } from "./ops/activation.js";
import { add, exp, mul, scale, sigmoid } from "./ops/elementwise.js";
import { gemm } from "./ops/matmul.js";
import { sum } from "./ops/reduce.js";
import { reshape } from "./ops/shape.js";
import type { Tensor } from "./tensor.js";

const siluOf = (v: number) => v / (1 + Math.exp(-v));

describe("gradients", () => {
  testOperatorOnce("adds up what arrives along several paths", {
    inputs: { x: { shape: [2, 3] }, y: { shape: [3] } },
    build: (graph, { x, y }) => {
      const product = mul(graph, x!, y!);
      const gated = mul(graph, product, sigmoid(graph, x!));
      return add(graph, add(graph, gated, product), scale(graph, x!, 3));
    },
    reference: ({ x, y }) => map((a, b) => (a * b) / (1 + Math.exp(-a)) + a * b + 3 * a, x!, y!),
  });

  testOperatorOnce("adds up several seeds, one of them for a value inside", {
    inputs: { x: { shape: [2, 3] } },
    build: (graph, { x }) => {
      const inner = exp(graph, x!);
      return [mul(graph, inner, inner), inner, x!];
    },
    reference: ({ x }) => [map((v) => Math.exp(2 * v), x!), map((v) => Math.exp(v), x!), x!],
  });

  test("is null for a target that no seed depends on", () => {
    const graph = new Graph();
    const x = graph.input("x", "float32", [2], { trainable: true });
    const other = graph.input("other", "float32", [2], { trainable: true });
    const y = exp(graph, x);
    const seed = { tensor: y, gradient: graph.input("dy", "float32", [2]) };
    const [dx, dOther] = gradients(graph, graph.operations, [seed], [x, other]);
    expect(dx!.shape).toEqual([2]);
    expect(dOther).toBeNull();
  });

  test("builds no nodes for inputs that are not trainable", () => {
    const graph = new Graph();
    const x = graph.input("x", "float32", [4, 3]);
    const down = graph.input("down", "float32", ["rank", 3], { trainable: true });
    const h = gemm(graph, x, down, { transB: true });
    const y = mul(graph, h, h);
    const seed = { tensor: y, gradient: graph.input("dy", "float32", y.shape) };
    const before = graph.nodes.length;
    gradients(graph, graph.operations, [seed], [down]);
    const products = graph.nodes.slice(before).filter((node) => node.op === "Gemm");
    // dDown = dHᵀ x alone; dX = dH down would be a second product.
    expect(products.map((node) => node.outputs[0]!.shape)).toEqual([["rank", 3]]);
  });

  test("records nothing: the backward pass is not differentiated", () => {
    const graph = new Graph();
    const x = graph.input("x", "float32", [2], { trainable: true });
    const y = exp(graph, x);
    const recorded = graph.operations.length;
    gradients(graph, graph.operations, [{ tensor: y, gradient: y }], [x]);
    expect(graph.operations.length).toBe(recorded);
  });

  test("refuses a seed of another shape", () => {
    const graph = new Graph();
    const x = graph.input("x", "float32", [2], { trainable: true });
    const seed = { tensor: exp(graph, x), gradient: graph.input("dy", "float32", [3]) };
    expect(() => gradients(graph, graph.operations, [seed], [x])).toThrow(
      "gradient of a seed has shape [3], its tensor [2]",
    );
  });

  test("names the operation whose rule gives a gradient of another shape", () => {
    const graph = new Graph();
    const x = graph.input("x", "float32", [2], { trainable: true });
    const broken = graph.operation1(
      "broken",
      [x],
      () => sum(graph, x, [0]),
      (dy) => [dy],
    );
    const seed = { tensor: broken, gradient: graph.input("dy", "float32", [1]) };
    expect(() => gradients(graph, graph.operations, [seed], [x])).toThrow(
      "gradient of broken, input 0 has shape [1], its tensor [2]",
    );
  });
});

/** silu(x w + x), which keeps two values for its backward pass when it is not checkpointed. */
const block = (graph: Graph, x: Tensor, w: Tensor) => silu(graph, gemm(graph, x, w, { c: x }));

function referenceBlock(x: ReferenceArray, w: ReferenceArray): ReferenceArray {
  const [rows, width] = x.shape as [number, number];
  const data = new Float64Array(rows * width);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < width; column++) {
      let total = x.data[row * width + column]!;
      for (let i = 0; i < width; i++) total += x.data[row * width + i]! * w.data[i * width + column]!;
      data[row * width + column] = siluOf(total);
    }
  }
  return { shape: x.shape, data };
}

describe("checkpoint", () => {
  const inputs = { x: { shape: [3, 4] }, w: { shape: [4, 4] } };

  testOperatorOnce("differentiates like the block itself", {
    inputs,
    build: (graph, { x, w }) => checkpoint(graph, () => [block(graph, x!, w!)]),
    reference: ({ x, w }) => referenceBlock(x!, w!),
  });

  testOperatorOnce("in a chain, with a value used inside and outside", {
    inputs,
    build: (graph, { x, w }) => {
      const [first] = checkpoint(graph, () => [block(graph, x!, w!)]);
      const [second] = checkpoint(graph, () => [block(graph, first!, w!)]);
      return mul(graph, add(graph, first!, second!), x!);
    },
    reference: ({ x, w }) => {
      const first = referenceBlock(x!, w!);
      return map((a, b, c) => (a + b) * c, first, referenceBlock(first, w!), x!);
    },
  });

  testOperatorOnce("inside another", {
    inputs,
    build: (graph, { x, w }) =>
      checkpoint(graph, () => {
        const [inner] = checkpoint(graph, () => [block(graph, x!, w!)]);
        return [block(graph, inner!, w!)];
      }),
    reference: ({ x, w }) => referenceBlock(referenceBlock(x!, w!), w!),
  });

  testOperatorOnce("with several outputs, of which one is not used", {
    inputs,
    build: (graph, { x, w }) => {
      const [y, , z] = checkpoint(graph, () => {
        const inner = block(graph, x!, w!);
        return [inner, exp(graph, inner), mul(graph, inner, x!)];
      });
      return add(graph, y!, z!);
    },
    reference: ({ x, w }) => map((a, b) => a + a * b, referenceBlock(x!, w!), x!),
  });

  test("computes the inner values again, from the block's input, in the backward pass", () => {
    const graph = new Graph();
    const x = graph.input("x", "float32", [3, 4], { trainable: true });
    const w = graph.input("w", "float32", [4, 4]);
    const [y] = checkpoint(graph, () => [block(graph, x, w)]);
    const forward = [...graph.nodes];
    const [dx] = gradients(
      graph,
      graph.operations,
      [{ tensor: y!, gradient: reshape(graph, y!, [3, 4]) }],
      [x],
    );
    const backward = graph.nodes.slice(forward.length);
    const kept = new Set(forward.flatMap((node) => node.outputs));
    const read = backward.flatMap((node) => node.inputs).filter((input) => input !== null && kept.has(input));
    expect(new Set(read)).toEqual(new Set([y]));
    expect(backward.filter((node) => node.op === "Gemm" && node.inputs[0] === x)).toHaveLength(1);
    expect(lowerToOnnx(graph, { dx: dx! }).nodeCount).toBeGreaterThan(forward.length);
  });
});
