/** The operators in float16 against references in float64. */
import { describe, expect, test } from "vitest";
import { checkedDevice, type OperatorCheck, testOperatorOnce } from "../../test/helpers/check-gradient.js";
import { arrayOf, at, map, type ReferenceArray, sumOf } from "../../test/helpers/reference-array.js";
import { Graph } from "./graph.js";
import { gelu, quickGelu, silu } from "./ops/activation.js";
import { attention } from "./ops/attention.js";
import { conv2d } from "./ops/conv.js";
import { add, cast } from "./ops/elementwise.js";
import { gemm } from "./ops/matmul.js";
import { groupNorm, layerNorm } from "./ops/norm.js";
import type { Tensor } from "./tensor.js";

/** float16 has 11 bits: a rounding is off by 2^-12 of the value on average, and several follow each other. */
const TOLERANCE = 5e-3;

/** WebGPU knows float16 on some adapters: DYLORA_TEST_FLOAT16=1 says that it does here. */
const hasFloat16 = checkedDevice() !== "webgpu" || process.env.DYLORA_TEST_FLOAT16 === "1";

function testHalf(label: string, check: OperatorCheck): void {
  if (hasFloat16) testOperatorOnce(label, { tolerance: TOLERANCE, ...check });
  else test.skip(`${label} (skipped: set DYLORA_TEST_FLOAT16=1 on an adapter with shader-f16)`);
}

const half = (graph: Graph, x: Tensor) => cast(graph, x, "float16");
const whole = (graph: Graph, x: Tensor) => cast(graph, x, "float32");

/** `x wᵀ`, `[M, K]` and `[N, K]`. */
function referenceGemm(x: ReferenceArray, w: ReferenceArray): ReferenceArray {
  const [k] = x.shape.slice(1) as [number];
  return arrayOf([x.shape[0]!, w.shape[0]!], ([row, column]) =>
    sumOf(k, (i) => at(x, row!, i) * at(w, column!, i)),
  );
}

describe("products in float16", () => {
  const inputs = { x: { shape: [6, 40] }, w: { shape: ["rank", 40] } };
  const symbols = [{ rank: 4 }, { rank: 1 }];

  testHalf("with a float32 factor, whose gradient is float32", {
    inputs,
    symbols,
    build: (graph, { x, w }) => whole(graph, gemm(graph, half(graph, x!), w!, { transB: true })),
    reference: ({ x, w }) => referenceGemm(x!, w!),
  });

  testHalf("over more terms than float16 can add up", {
    graph: { halfProductType: "float32" },
    inputs: { x: { shape: [3, 3000] }, w: { shape: [5, 3000] }, c: { shape: [5] } },
    build: (graph, { x, w, c }) =>
      whole(graph, gemm(graph, half(graph, x!), half(graph, w!), { transB: true, c: half(graph, c!) })),
    reference: ({ x, w, c }) => {
      const product = referenceGemm(x!, w!);
      return arrayOf(product.shape, ([row, column]) => at(product, row!, column!) + c!.data[column!]!);
    },
  });

  for (const [label, stride] of [
    ["a convolution", 1],
    ["a convolution with stride", 2],
  ] as const) {
    testHalf(`${label} over more terms than float16 can add up`, {
      graph: { halfProductType: "float32" },
      inputs: { x: { shape: [1, 300, 4, 4] }, w: { shape: [3, 300, 3, 3] } },
      build: (graph, { x, w }) =>
        whole(graph, conv2d(graph, half(graph, x!), half(graph, w!), { padding: 1, stride })),
      reference: ({ x, w }) => referenceConv(x!, w!, stride),
    });
  }

  const inputsOf = (graph: Graph, op: string) =>
    graph.nodes.filter((node) => node.op === op).map(({ inputs }) => inputs.map((input) => input!.name));
  const typesOf = (graph: Graph, op: string) =>
    graph.nodes.filter((node) => node.op === op).flatMap((node) => node.outputs.map(({ dtype }) => dtype));

  test("are products of float32 where the device asks for it", () => {
    const products = (graph: Graph) => {
      const x = graph.input("x", "float16", [2, 8]);
      gemm(graph, x, graph.input("w", "float16", [3, 8]), { transB: true });
      return typesOf(graph, "Gemm");
    };
    expect(products(new Graph())).toEqual(["float16"]);
    expect(products(new Graph({ halfProductType: "float32" }))).toEqual(["float32"]);
  });

  test("convert what they share once, and read each other's results unrounded", () => {
    const graph = new Graph({ halfProductType: "float32" });
    const x = graph.input("x", "float16", [2, 8]);
    const [v, w] = ["v", "w"].map((name) => graph.input(name, "float32", [8, 8])) as [Tensor, Tensor];
    const y = gemm(graph, x, v);
    gemm(graph, x, w);
    gemm(graph, y, w);
    const [first, second, third] = inputsOf(graph, "Gemm");
    expect(second![0]).toBe(first![0]);
    expect(third![0]).toBe(graph.nodes.find(({ op }) => op === "Gemm")!.outputs[0]!.name);
    // The backward pass converts again: what is kept until then is float16.
    graph.untracked(() => gemm(graph, x, w));
    expect(inputsOf(graph, "Gemm").at(-1)![0]).not.toBe(first![0]);
  });
});

/** 3x3, padding 1. */
function referenceConv(x: ReferenceArray, w: ReferenceArray, stride: number): ReferenceArray {
  const [, channels, height, width] = x.shape as [number, number, number, number];
  const side = (length: number) => Math.floor((length - 1) / stride) + 1;
  return arrayOf([1, w.shape[0]!, side(height), side(width)], ([, o, row, column]) =>
    sumOf(channels * 9, (term) => {
      const [i, dy, dx] = [Math.floor(term / 9), Math.floor((term % 9) / 3), term % 3];
      const [y, z] = [row! * stride + dy - 1, column! * stride + dx - 1];
      if (y < 0 || y >= height || z < 0 || z >= width) return 0;
      return at(x, 0, i, y, z) * at(w, o!, i, dy, dx);
    }),
  );
}

describe("what is computed in float32 between float16 values", () => {
  // 2048 + 1 - 2048 is 0 in float16.
  test.each(["float16", "float32"] as const)("a stream of residual sums, with products in %s", (type) => {
    const graph = new Graph({ halfProductType: type });
    const one = graph.input("one", "float16", [1, 1]);
    const times = (value: number) => gemm(graph, one, graph.constant([value], "float32", [1, 1]));
    add(graph, add(graph, times(2048), times(1)), times(-2048));
    const sums = graph.nodes.filter(({ op }) => op === "Add").flatMap(({ outputs }) => outputs);
    expect(sums.map(({ dtype }) => dtype)).toEqual([type, type]);
  });

  const ones = (graph: Graph, count: number, value: number) =>
    graph.constant(new Array<number>(count).fill(value), "float32");

  // 300 squared is beyond float16.
  testHalf("a layer normalization of large values", {
    inputs: { x: { shape: [3, 8], draw: (random) => 300 * random.normal() } },
    build: (graph, { x }) =>
      whole(graph, layerNorm(graph, half(graph, x!), ones(graph, 8, 1), ones(graph, 8, 0), 1e-5)),
    reference: ({ x }) => normalized(x!, 8),
  });

  testHalf("a group normalization of large values", {
    inputs: { x: { shape: [2, 4, 3, 3], draw: (random) => 300 * random.normal() } },
    build: (graph, { x }) =>
      whole(
        graph,
        groupNorm(graph, half(graph, x!), ones(graph, 4, 1), ones(graph, 4, 0), { groups: 2, eps: 1e-5 }),
      ),
    reference: ({ x }) => normalized(x!, 18),
  });

  testHalf("attention with scores beyond float16", {
    inputs: {
      q: { shape: [3, 4], draw: (random) => 400 * random.normal(), trainable: false },
      k: { shape: [5, 4], draw: (random) => 400 * random.normal(), trainable: false },
      v: { shape: [5, 4] },
    },
    build: (graph, { q, k, v }) =>
      whole(
        graph,
        attention(graph, half(graph, q!), half(graph, k!), half(graph, v!), {
          ...{ batch: 1, queries: 3, keys: 5, heads: 1, headDim: 4 },
        }),
      ),
    reference: ({ q, k, v }) => {
      const [hq, hk] = [q!, k!].map((x) => map(toHalf, x)) as [ReferenceArray, ReferenceArray];
      const scores = map((value) => value / 2, referenceGemm(hq, hk));
      return arrayOf([3, 4], ([row, column]) => {
        const most = Math.max(...[0, 1, 2, 3, 4].map((key) => at(scores, row!, key)));
        const weights = [0, 1, 2, 3, 4].map((key) => Math.exp(at(scores, row!, key) - most));
        const total = weights.reduce((sum, weight) => sum + weight, 0);
        return sumOf(5, (key) => (weights[key]! / total) * at(v!, key, column!));
      });
    },
  });
});

/** Rounded to the 11 bits of a float16, for values that are not tiny. */
function toHalf(value: number): number {
  if (value === 0) return 0;
  const unit = 2 ** (Math.floor(Math.log2(Math.abs(value))) - 10);
  return Math.round(value / unit) * unit;
}

/** Runs of `length` values with mean 0 and variance 1. */
function normalized({ shape, data }: ReferenceArray, length: number): ReferenceArray {
  const result = new Float64Array(data.length);
  for (let begin = 0; begin < data.length; begin += length) {
    const run = data.subarray(begin, begin + length);
    const mean = run.reduce((sum, value) => sum + value, 0) / length;
    const variance = run.reduce((sum, value) => sum + (value - mean) ** 2, 0) / length;
    for (const [i, value] of run.entries()) result[begin + i] = (value - mean) / Math.sqrt(variance + 1e-5);
  }
  return { shape, data: result };
}

describe("activations in float16", () => {
  const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
  const inputs = { x: { shape: [4, 7] } };
  testHalf("SiLU", {
    inputs,
    build: (graph, { x }) => whole(graph, silu(graph, half(graph, x!))),
    reference: ({ x }) => map((value) => value * sigmoid(value), x!),
  });
  testHalf("quick GELU", {
    inputs,
    build: (graph, { x }) => whole(graph, quickGelu(graph, half(graph, x!))),
    reference: ({ x }) => map((value) => value * sigmoid(1.702 * value), x!),
  });
  testHalf("GELU", {
    inputs,
    build: (graph, { x }) => whole(graph, gelu(graph, half(graph, x!))),
    // Φ by its logistic series is not exact enough: numerical integration of φ.
    reference: ({ x }) => map((value) => value * normalCdf(value), x!),
  });
});

function normalCdf(x: number): number {
  const steps = 2000;
  const width = x / steps;
  const density = (t: number) => Math.exp((-t * t) / 2) / Math.sqrt(2 * Math.PI);
  return 0.5 + width * sumOf(steps, (i) => density((i + 0.5) * width));
}
