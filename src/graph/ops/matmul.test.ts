import fc from "fast-check";
import { expect, test } from "vitest";
import { describeOperators, testOperator, testOperatorOnce } from "../../../test/helpers/check-gradient.js";
import {
  arrayOf,
  at,
  broadcast,
  map,
  positionOf,
  type ReferenceArray,
  sumOf,
} from "../../../test/helpers/reference-array.js";
import { Graph } from "../graph.js";
import { mul } from "./elementwise.js";
import * as products from "./matmul.js";

const { gemm, matmul, swapLast } = products;

const length = fc.integer({ min: 1, max: 6 });
const ranks = [{ rank: 4 }, { rank: 1 }, { rank: 7 }];

/** `[..., M, K]` times `[..., K, N]`, leading axes broadcast. */
function product(a: ReferenceArray, b: ReferenceArray): ReferenceArray {
  const [m, k] = a.shape.slice(-2) as [number, number];
  const n = b.shape.at(-1)!;
  const leading = broadcast(a.shape.slice(0, -2), b.shape.slice(0, -2));
  const matrixAt = ({ shape }: ReferenceArray, index: readonly number[]) =>
    positionOf(shape.slice(0, -2), index) * shape.at(-2)! * shape.at(-1)!;
  const result = arrayOf([...leading, m, n], () => 0);
  let position = 0;
  arrayOf(leading, (index) => {
    const [beginA, beginB] = [matrixAt(a, index), matrixAt(b, index)];
    for (let row = 0; row < m; row++) {
      for (let column = 0; column < n; column++) {
        result.data[position++] = sumOf(
          k,
          (i) => a.data[beginA + row * k + i]! * b.data[beginB + i * n + column]!,
        );
      }
    }
    return 0;
  });
  return result;
}

function swapped(x: ReferenceArray): ReferenceArray {
  const [m, n] = x.shape.slice(-2) as [number, number];
  return arrayOf([...x.shape.slice(0, -2), n, m], (index) => {
    const [row, column] = index.slice(-2) as [number, number];
    return at(x, ...index.slice(0, -2), column, row);
  });
}

/** What `c` may be beside a product `[M, N]`. */
const addends = {
  "no c": null,
  "a vector c": (_m: number, n: number) => [n],
  "a matrix c": (m: number, n: number) => [m, n],
  "a row c": (_m: number, n: number) => [1, n],
  "a column c": (m: number) => [m, 1],
  "a scalar c": () => [],
} as const;

describeOperators(products, {
  gemm: () => {
    for (const transA of [false, true]) {
      for (const transB of [false, true]) {
        for (const [name, shapeOfC] of Object.entries(addends)) {
          const label = `${transA ? "aᵀ" : "a"} ${transB ? "bᵀ" : "b"}, ${name}`;
          testOperator(label, fc.tuple(length, length, length), ([m, k, n]) => ({
            inputs: {
              a: { shape: transA ? [k, m] : [m, k] },
              b: { shape: transB ? [n, k] : [k, n] },
              ...(shapeOfC === null ? {} : { c: { shape: shapeOfC(m, n) } }),
            },
            build: (graph, { a, b, c }) => gemm(graph, a!, b!, { transA, transB, c }),
            reference: ({ a, b, c }) => {
              const ab = product(transA ? swapped(a!) : a!, transB ? swapped(b!) : b!);
              return c === undefined ? ab : map((y, addend) => y + addend, ab, c);
            },
          }));
        }
      }
    }
    testOperatorOnce("of sizes past the vector and tile widths of the kernels", {
      inputs: { a: { shape: [37, 40] }, b: { shape: [36, 40] }, c: { shape: [36] } },
      build: (graph, { a, b, c }) => gemm(graph, a!, b!, { transB: true, c }),
      reference: ({ a, b, c }) => map((y, addend) => y + addend, product(a!, swapped(b!)), c!),
    });
    testOperatorOnce("a LoRA branch: symbolic inner axis, added to a base output", {
      inputs: {
        x: { shape: [5, 4] },
        down: { shape: ["rank", 4] },
        up: { shape: [3, "rank"] },
        y: { shape: [5, 3] },
      },
      symbols: ranks,
      build: (graph, { x, down, up, y }) =>
        gemm(graph, gemm(graph, x!, down!, { transB: true }), up!, { transB: true, c: y! }),
      reference: ({ x, down, up, y }) =>
        map((a, b) => a + b, product(product(x!, swapped(down!)), swapped(up!)), y!),
    });
    testOperatorOnce("a matrix with itself", {
      inputs: { x: { shape: [3, 3] } },
      build: (graph, { x }) => gemm(graph, x!, x!, { transB: true, c: x! }),
      reference: ({ x }) => map((a, b) => a + b, product(x!, swapped(x!)), x!),
    });
    test("refuses matrices that do not fit", () => {
      const graph = new Graph();
      const a = graph.input("a", "float32", [2, 3]);
      expect(() => gemm(graph, a, a)).toThrow("gemm of [2, 3] and [2, 3]");
      expect(() => gemm(graph, a, a, { transA: true, transB: true })).toThrow("gemm of [2, 3]ᵀ and [2, 3]ᵀ");
    });
  },
  matmul: () => {
    const stack = fc.constantFrom<readonly [number[], number[]]>(
      [[], []],
      [[3], [3]],
      [
        [2, 3],
        [2, 3],
      ],
      [
        [2, 1],
        [1, 3],
      ],
      [[3], []],
      [[], [2, 2]],
      [
        [1, 3],
        [2, 1],
      ],
    );
    testOperator(
      "stacks of matrices, broadcast",
      fc.record({ stack, m: length, k: length, n: length }),
      ({ stack, m, k, n }) => ({
        inputs: { a: { shape: [...stack[0], m, k] }, b: { shape: [...stack[1], k, n] } },
        build: (graph, { a, b }) => matmul(graph, a!, b!),
        reference: ({ a, b }) => product(a!, b!),
      }),
    );
    testOperatorOnce("of sizes past the vector and tile widths of the kernels", {
      inputs: { a: { shape: [2, 35, 20] }, b: { shape: [20, 36] } },
      build: (graph, { a, b }) => matmul(graph, a!, b!),
      reference: ({ a, b }) => product(a!, b!),
    });
    testOperatorOnce("with a symbolic inner axis", {
      inputs: { a: { shape: [2, 3, "rank"] }, b: { shape: ["rank", 4] } },
      symbols: ranks,
      build: (graph, { a, b }) => matmul(graph, a!, b!),
      reference: ({ a, b }) => product(a!, b!),
    });
    test("refuses matrices that do not fit", () => {
      const graph = new Graph();
      const a = graph.input("a", "float32", [2, 3]);
      const b = graph.input("b", "float32", [4, 3, 2]);
      const c = graph.input("c", "float32", [5, 2, 3]);
      expect(() => matmul(graph, a, a)).toThrow("matmul of [2, 3] and [2, 3]");
      expect(() => matmul(graph, b, c)).toThrow("do not broadcast");
    });
  },
  swapLast: () =>
    testOperator(
      "exchanges the last two axes",
      fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 2, maxLength: 4 }),
      (shape) => ({
        inputs: { x: { shape } },
        build: (graph, { x }) => swapLast(graph, mul(graph, x!, x!)),
        reference: ({ x }) => swapped(map((value) => value * value, x!)),
      }),
    ),
});
