import fc from "fast-check";
import { test } from "vitest";
import {
  checkedDevice,
  describeOperators,
  type InputSpec,
  testOperator,
  testOperatorOnce,
} from "../../../test/helpers/check-gradient.js";
import { map, type ReferenceArray } from "../../../test/helpers/reference-array.js";
import type { RandomStream } from "../../random/stream.js";
import type { Graph } from "../graph.js";
import type { Tensor } from "../tensor.js";
import * as elementwise from "./elementwise.js";

const { add, cast, div, erf, exp, mul, neg, scalar, scale, sigmoid, sqrt, sub, toFloat32Again } = elementwise;

const shapes = fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 4 });

/** Two shapes that broadcast together: axes set to 1 and leading axes left out, on either side. */
const shapePairs = shapes.chain((shape) => {
  const operand = fc
    .tuple(
      fc.array(fc.boolean(), { minLength: shape.length, maxLength: shape.length }),
      fc.nat({ max: shape.length }),
    )
    .map(([kept, leftOut]) => shape.map((length, axis) => (kept[axis] ? length : 1)).slice(leftOut));
  return fc.tuple(operand, operand);
});

/** Of size 0.5 to 2 and either sign: far enough from the pole of a division. */
const awayFromZero = (random: RandomStream) =>
  (random.uniform() < 0.5 ? -1 : 1) * (0.5 + 1.5 * random.uniform());
const positive = (random: RandomStream) => 0.5 + 1.5 * random.uniform();

type Binary = (graph: Graph, a: Tensor, b: Tensor) => Tensor;
type Unary = (graph: Graph, x: Tensor) => Tensor;

function testBinary(operator: Binary, compute: (a: number, b: number) => number, b?: Partial<InputSpec>) {
  const build = (graph: Graph, inputs: Readonly<Record<string, Tensor>>) =>
    operator(graph, inputs.a!, inputs.b!);
  const reference = (inputs: Readonly<Record<string, ReferenceArray>>) => map(compute, inputs.a!, inputs.b!);
  testOperator("broadcasts", shapePairs, ([shapeA, shapeB]) => ({
    inputs: { a: { shape: shapeA }, b: { ...b, shape: shapeB } },
    build,
    reference,
  }));
  testOperatorOnce("broadcasts along a symbolic axis", {
    inputs: { a: { shape: ["rank", 1] }, b: { ...b, shape: [3] } },
    symbols: [{ rank: 4 }, { rank: 1 }],
    build,
    reference,
  });
  testOperatorOnce("broadcasts over a symbolic axis", {
    inputs: { a: { shape: [1, 3] }, b: { ...b, shape: ["rank", 3] } },
    symbols: [{ rank: 4 }, { rank: 1 }],
    build,
    reference,
  });
  testOperator("takes the same tensor twice", shapes, (shape) => ({
    inputs: { x: { ...b, shape } },
    build: (graph, { x }) => operator(graph, x!, x!),
    reference: ({ x }) => map((value) => compute(value, value), x!),
  }));
}

function testUnary(operator: Unary, compute: (x: number) => number, input: Partial<InputSpec> = {}) {
  testOperator("matches its definition", shapes, (shape) => ({
    inputs: { x: { ...input, shape } },
    build: (graph, { x }) => operator(graph, x!),
    reference: ({ x }) => map(compute, x!),
  }));
}

/** erf(x) by its Taylor series, which converges fast enough for the |x| < 4 of these tests. */
function referenceErf(x: number): number {
  let term = x;
  let total = x;
  for (let n = 1; Math.abs(term) > 1e-20; n++) {
    term *= -(x * x) / n;
    total += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * total;
}

describeOperators(elementwise, {
  add: () => testBinary(add, (a, b) => a + b),
  // x - x is 0 with gradient 0, which no relative tolerance measures: b is doubled.
  sub: () =>
    testBinary(
      (graph, a, b) => sub(graph, a, scale(graph, b, 2)),
      (a, b) => a - 2 * b,
    ),
  mul: () => testBinary(mul, (a, b) => a * b),
  // x / x has gradient 0: a is squared.
  div: () =>
    testBinary(
      (graph, a, b) => div(graph, mul(graph, a, a), b),
      (a, b) => (a * a) / b,
      { draw: awayFromZero },
    ),
  neg: () => testUnary(neg, (x) => -x),
  scale: () => {
    testUnary(
      (graph, x) => scale(graph, x, -2.5),
      (x) => -2.5 * x,
    );
    testOperator("by 1 adds no node", shapes, (shape) => ({
      inputs: { x: { shape } },
      build: (graph, { x }) => {
        if (scale(graph, x!, 1) !== x) throw new Error("scale by 1 made a new tensor");
        return neg(graph, x!);
      },
      reference: ({ x }) => map((value) => -value, x!),
    }));
  },
  sqrt: () => testUnary(sqrt, Math.sqrt, { draw: positive }),
  exp: () => testUnary(exp, Math.exp),
  sigmoid: () => testUnary(sigmoid, (x) => 1 / (1 + Math.exp(-x))),
  erf: () => testUnary(erf, referenceErf),
  scalar: () =>
    testUnary(
      (graph, x) => mul(graph, x, scalar(graph, 0.1, x)),
      (x) => Math.fround(0.1) * x,
    ),
  cast: () => {
    // float16 is an optional feature of WebGPU, which software GPUs lack.
    if (checkedDevice() === "webgpu") return test.skip("to float16 and back");
    // Multiples of 1/64 survive float16; the gradient is rounded to its 11 bits.
    testOperator("to float16 and back", shapes, (shape) => ({
      inputs: { x: { shape, draw: (random) => (random.int(256) - 128) / 64 } },
      tolerance: 2 ** -10,
      build: (graph, { x }) => {
        const half = cast(graph, x!, "float16");
        return cast(graph, mul(graph, half, scalar(graph, 2, half)), "float32");
      },
      reference: ({ x }) => map((value) => 2 * value, x!),
    }));
  },
  toFloat32Again: () =>
    testUnary(
      (graph, x) => neg(graph, toFloat32Again(graph, x)),
      (x) => -x,
    ),
});
