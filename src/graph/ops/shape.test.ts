import fc from "fast-check";
import { expect, test } from "vitest";
import {
  checkedDevice,
  describeOperators,
  testOperator,
  testOperatorOnce,
} from "../../../test/helpers/check-gradient.js";
import { arrayOf, at, elementCountOf, type ReferenceArray } from "../../../test/helpers/reference-array.js";
import { float32, Session } from "../../runtime/session.js";
import { gradients } from "../gradient.js";
import { Graph } from "../graph.js";
import { lowerToOnnx } from "../onnx/lower.js";
import type { Tensor } from "../tensor.js";
import { mul } from "./elementwise.js";
import * as shapes from "./shape.js";

const {
  concat,
  expand,
  gatherRows,
  leadingRows,
  pad,
  reshape,
  reverse,
  slice,
  split,
  transpose,
  upsampleNearest2x,
} = shapes;

const length = fc.integer({ min: 1, max: 4 });
const shape = fc.array(length, { minLength: 1, maxLength: 4 });
/** A shape and one of its axes, which may count from the end. */
const shapeAndAxis = shape.chain((lengths) =>
  fc.record({
    shape: fc.constant(lengths),
    axis: fc.integer({ min: -lengths.length, max: lengths.length - 1 }),
  }),
);
const ranks = [{ rank: 3 }, { rank: 1 }, { rank: 4 }];

/** Moving elements is linear; squares first, so that its gradient depends on the input. */
const squared = (graph: Graph, x: Tensor) => mul(graph, x, x);
const square = (x: ReferenceArray): ReferenceArray => ({ shape: x.shape, data: x.data.map((v) => v * v) });
const withShape = (x: ReferenceArray, lengths: readonly number[]): ReferenceArray => ({
  shape: lengths,
  data: x.data,
});

function permuted(x: ReferenceArray, permutation: readonly number[]): ReferenceArray {
  return arrayOf(
    permutation.map((axis) => x.shape[axis]!),
    (index) => at(x, ...x.shape.map((_, axis) => index[permutation.indexOf(axis)]!)),
  );
}

const replaced = (lengths: readonly number[], axis: number, value: number) =>
  lengths.with(axis < 0 ? axis + lengths.length : axis, value);

/** `x` moved by `shift` along `axis` into a shape with `newLength` there; zero where it has no elements. */
function shifted(x: ReferenceArray, axis: number, shift: number, newLength: number): ReferenceArray {
  const along = axis < 0 ? axis + x.shape.length : axis;
  return arrayOf(replaced(x.shape, along, newLength), (index) => {
    const from = index[along]! - shift;
    return from < 0 || from >= x.shape[along]! ? 0 : at(x, ...index.with(along, from));
  });
}

describeOperators(shapes, {
  reshape: () => {
    testOperator("keeps the row-major order", shape, (lengths) => ({
      inputs: { x: { shape: lengths } },
      build: (graph, { x }) => reshape(graph, squared(graph, x!), [...lengths.toReversed(), 1]),
      reference: ({ x }) => withShape(square(x!), [...lengths.toReversed(), 1]),
    }));
    testOperatorOnce("of a scalar and to one", {
      inputs: { x: { shape: [] } },
      build: (graph, { x }) => reshape(graph, reshape(graph, squared(graph, x!), [1, 1]), []),
      reference: ({ x }) => square(x!),
    });
    testOperatorOnce("carries a symbolic axis", {
      inputs: { x: { shape: ["rank", 6] } },
      symbols: ranks,
      build: (graph, { x }) => reshape(graph, squared(graph, x!), ["rank", 2, 3]),
      reference: ({ x }, { rank }) => withShape(square(x!), [rank!, 2, 3]),
    });
    testOperatorOnce("moves a symbolic axis past fixed ones", {
      inputs: { x: { shape: [2, "rank", 3] } },
      symbols: ranks,
      build: (graph, { x }) => reshape(graph, squared(graph, x!), [6, "rank"]),
      reference: ({ x }, { rank }) => withShape(square(x!), [6, rank!]),
    });
    test("refuses another number of elements, and two symbolic axes", () => {
      const graph = new Graph();
      const fixed = graph.input("fixed", "float32", [2, 3]);
      const symbolic = graph.input("symbolic", "float32", ["a", "b"]);
      expect(() => reshape(graph, fixed, [4, 2])).toThrow("cannot reshape [2, 3] to [4, 2]");
      expect(() => reshape(graph, fixed, ["a", 3])).toThrow("cannot reshape");
      expect(() => reshape(graph, symbolic, ["a", 1, "b"])).toThrow("cannot reshape");
    });
  },
  transpose: () => {
    testOperator(
      "permutes axes",
      shape.chain((lengths) =>
        fc.record({
          lengths: fc.constant(lengths),
          permutation: fc.shuffledSubarray([...lengths.keys()], { minLength: lengths.length }),
        }),
      ),
      ({ lengths, permutation }) => ({
        inputs: { x: { shape: lengths } },
        build: (graph, { x }) => transpose(graph, squared(graph, x!), permutation),
        reference: ({ x }) => permuted(square(x!), permutation),
      }),
    );
    testOperatorOnce("carries a symbolic axis", {
      inputs: { x: { shape: [2, "rank", 3] } },
      symbols: ranks,
      build: (graph, { x }) => transpose(graph, squared(graph, x!), [1, 2, 0]),
      reference: ({ x }) => permuted(square(x!), [1, 2, 0]),
    });
  },
  expand: () =>
    testOperator(
      "repeats along axes of length 1",
      shape.chain((lengths) =>
        fc.record({
          target: fc.constant(lengths),
          from: fc
            .tuple(...lengths.map((n) => fc.constantFrom(1, n)))
            .chain((kept) => fc.nat({ max: kept.length }).map((leftOut) => dropLeading(kept, leftOut))),
        }),
      ),
      ({ target, from }) => ({
        inputs: { x: { shape: from } },
        build: (graph, { x }) => expand(graph, squared(graph, x!), target),
        reference: ({ x }) => arrayOf(target, (index) => at(square(x!), ...index)),
      }),
    ),
  concat: () => {
    testOperator(
      "joins along an axis",
      fc.record({ like: shapeAndAxis, lengths: fc.array(length, { minLength: 1, maxLength: 3 }) }),
      ({ like, lengths }) => ({
        inputs: Object.fromEntries(
          lengths.map((n, part) => [`part${part}`, { shape: replaced(like.shape, like.axis, n) }]),
        ),
        build: (graph, parts) =>
          concat(
            graph,
            Object.values(parts).map((part) => squared(graph, part)),
            like.axis,
          ),
        reference: (parts) => joined(Object.values(parts).map(square), like.axis),
      }),
    );
    testOperatorOnce("the same tensor twice", {
      inputs: { x: { shape: [2, 3] } },
      build: (graph, { x }) => concat(graph, [x!, squared(graph, x!), x!], 1),
      reference: ({ x }) => joined([x!, square(x!), x!], 1),
    });
    testOperatorOnce("beside a symbolic axis", {
      inputs: { a: { shape: ["rank", 2] }, b: { shape: ["rank", 1] } },
      symbols: ranks,
      build: (graph, { a, b }) => concat(graph, [squared(graph, a!), squared(graph, b!)], 1),
      reference: ({ a, b }) => joined([square(a!), square(b!)], 1),
    });
  },
  slice: () => {
    testOperator(
      "takes a range",
      fc.record({ like: shapeAndAxis, begin: fc.nat({ max: 3 }), end: fc.nat({ max: 3 }) }),
      ({ like, begin, end }) => {
        const from = begin % like.shape.at(like.axis)!;
        const to = from + 1 + (end % (like.shape.at(like.axis)! - from));
        return {
          inputs: { x: { shape: like.shape } },
          build: (graph, { x }) => slice(graph, squared(graph, x!), like.axis, from, to),
          reference: ({ x }) => shifted(square(x!), like.axis, -from, to - from),
        };
      },
    );
    testOperatorOnce("beside a symbolic axis", {
      inputs: { x: { shape: ["rank", 4] } },
      symbols: ranks,
      build: (graph, { x }) => slice(graph, squared(graph, x!), 1, 1, 3),
      reference: ({ x }) => shifted(square(x!), 1, -1, 2),
    });
  },
  reverse: () => {
    testOperator(
      "reverses some axes",
      shape.chain((lengths) =>
        fc.record({
          lengths: fc.constant(lengths),
          axes: fc.uniqueArray(fc.nat({ max: lengths.length - 1 }), { minLength: 1 }),
        }),
      ),
      ({ lengths, axes }) => ({
        inputs: { x: { shape: lengths } },
        build: (graph, { x }) => reverse(graph, squared(graph, x!), axes),
        reference: ({ x }) =>
          arrayOf(lengths, (index) =>
            at(square(x!), ...index.map((i, axis) => (axes.includes(axis) ? lengths[axis]! - 1 - i : i))),
          ),
      }),
    );
  },
  pad: () => {
    testOperator(
      "puts zeros around",
      fc.record({ like: shapeAndAxis, before: fc.nat({ max: 2 }), after: fc.nat({ max: 2 }) }),
      ({ like, before, after }) => ({
        inputs: { x: { shape: like.shape } },
        build: (graph, { x }) => pad(graph, squared(graph, x!), like.axis, before, after),
        reference: ({ x }) =>
          shifted(square(x!), like.axis, before, before + like.shape.at(like.axis)! + after),
      }),
    );
    testOperatorOnce("beside a symbolic axis", {
      inputs: { x: { shape: ["rank", 2] } },
      symbols: ranks,
      build: (graph, { x }) => pad(graph, squared(graph, x!), 1, 2, 1),
      reference: ({ x }) => shifted(square(x!), 1, 2, 5),
    });
  },
  split: () => {
    testOperator(
      "into consecutive parts",
      fc.record({ like: shapeAndAxis, lengths: fc.array(length, { minLength: 1, maxLength: 3 }) }),
      ({ like, lengths }) => {
        const total = lengths.reduce((sum, n) => sum + n, 0);
        const begins = lengths.map((_, part) => lengths.slice(0, part).reduce((sum, n) => sum + n, 0));
        return {
          inputs: { x: { shape: replaced(like.shape, like.axis, total) } },
          build: (graph, { x }) => split(graph, squared(graph, x!), like.axis, lengths),
          reference: ({ x }) => lengths.map((n, part) => shifted(square(x!), like.axis, -begins[part]!, n)),
        };
      },
    );
    test("refuses to differentiate when a part is unused", () => {
      const graph = new Graph();
      const x = graph.input("x", "float32", [3], { trainable: true });
      const [first] = split(graph, x, 0, [1, 2]);
      const seeds = [{ tensor: first!, gradient: graph.input("dy", "float32", [1]) }];
      expect(() => gradients(graph, graph.operations, seeds, [x])).toThrow("split: a part has no gradient");
    });
  },
  leadingRows: () => {
    const numbers = (graph: Graph, ...values: number[]) => graph.constant(values, "int64");
    const range = (graph: Graph, rows: number, begin: number, end: number) => ({
      end: numbers(graph, end),
      trainedBegin: numbers(graph, begin),
      untrained: numbers(graph, begin, 0, rows - end, 0),
    });
    testOperator(
      "takes the first rows",
      fc.record({ rows: length, width: length, drawn: fc.nat(3) }),
      ({ rows, width, drawn }) => {
        const end = 1 + (drawn % rows);
        return {
          inputs: { x: { shape: [rows, width] } },
          symbols: [{ first: end }],
          build: (graph, { x }) =>
            leadingRows(graph, squared(graph, x!), range(graph, rows, 0, end), "first"),
          reference: ({ x }) => arrayOf([end, width], ([row, column]) => at(square(x!), row!, column!)),
        };
      },
    );
    test("gives no gradient to rows before those that are trained", async () => {
      const graph = new Graph();
      const x = graph.input("x", "float32", [4, 2], { trainable: true });
      const y = leadingRows(graph, x, range(graph, 4, 1, 3), "first");
      const seeds = [{ tensor: y, gradient: graph.input("dy", "float32", y.shape) }];
      const [gradient] = gradients(graph, graph.operations, seeds, [x]);
      const session = await Session.create(lowerToOnnx(graph, { gradient: gradient! }), {
        ...{ device: checkedDevice(), mode: "fast" },
      });
      const dy = float32(Float32Array.of(1, 2, 3, 4, 5, 6), [3, 2]);
      const { data } = (await session.run({ dy })).gradient!;
      expect([...(data as Float32Array)]).toEqual([0, 0, 3, 4, 5, 6, 0, 0]);
      await session.release();
    });
  },
  gatherRows: () =>
    testOperator(
      "looks rows up",
      fc.record({ rows: length, width: length, indices: fc.array(length, { maxLength: 3 }) }),
      ({ rows, width, indices }) => ({
        inputs: {
          table: { shape: [rows, width], trainable: false },
          indices: { shape: indices, indicesBelow: rows },
        },
        build: (graph, { table, indices }) => gatherRows(graph, table!, indices!),
        reference: ({ table, indices }) =>
          arrayOf([...indices!.shape, width], (index) =>
            at(table!, at(indices!, ...index.slice(0, -1)), index.at(-1)!),
          ),
      }),
    ),
  upsampleNearest2x: () =>
    testOperator("repeats every pixel", fc.tuple(length, length, length, length), (lengths) => ({
      inputs: { x: { shape: lengths } },
      build: (graph, { x }) => upsampleNearest2x(graph, squared(graph, x!)),
      reference: ({ x }) =>
        arrayOf([lengths[0], lengths[1], 2 * lengths[2], 2 * lengths[3]], ([n, c, h, w]) =>
          at(square(x!), n!, c!, h! >> 1, w! >> 1),
        ),
    })),
});

/** Without up to `count` leading axes, for as long as they have length 1. */
function dropLeading(lengths: readonly number[], count: number): number[] {
  const kept = lengths.findIndex((n) => n !== 1);
  return lengths.slice(Math.min(count, kept < 0 ? lengths.length : kept));
}

function joined(parts: readonly ReferenceArray[], axis: number): ReferenceArray {
  const along = axis < 0 ? axis + parts[0]!.shape.length : axis;
  const total = parts.reduce((sum, part) => sum + part.shape[along]!, 0);
  let begin = 0;
  const result = arrayOf(replaced(parts[0]!.shape, along, total), () => 0);
  for (const part of parts) {
    const moved = shifted(part, along, begin, total);
    for (let i = 0; i < elementCountOf(result.shape); i++) result.data[i]! += moved.data[i]!;
    begin += part.shape[along]!;
  }
  return result;
}
