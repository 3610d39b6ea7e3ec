import fc from "fast-check";
import { describeOperators, testOperator, testOperatorOnce } from "../../../test/helpers/check-gradient.js";
import { arrayOf, type Index, map, type ReferenceArray } from "../../../test/helpers/reference-array.js";
import type { Graph } from "../graph.js";
import type { Tensor } from "../tensor.js";
import { mul } from "./elementwise.js";
import * as reduce from "./reduce.js";

const { mean, sum, sumOfSquares, sumToShape } = reduce;

/** A shape and some of its axes, at least one; an axis may count from the end. */
const shapeAndAxes = fc
  .array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 4 })
  .chain((shape) =>
    fc.record({
      shape: fc.constant(shape),
      axes: fc.uniqueArray(fc.nat({ max: shape.length - 1 }), { minLength: 1 }),
      fromEnd: fc.boolean(),
      keepDims: fc.boolean(),
    }),
  )
  .map(({ shape, axes, fromEnd, keepDims }) => ({
    shape,
    keepDims,
    axes: axes.map((axis) => (fromEnd ? axis - shape.length : axis)),
  }));

/** Sum of `term(x)` over `axes`. */
function reducedBy(
  x: ReferenceArray,
  axes: readonly number[],
  keepDims: boolean,
  term: (value: number) => number,
): ReferenceArray {
  const over = new Set(axes.map((axis) => (axis < 0 ? axis + x.shape.length : axis)));
  const kept = x.shape.map((length, axis) => (over.has(axis) ? 1 : length));
  const result = arrayOf(kept, () => 0);
  const place = (index: Index) =>
    index.reduce((position, i, axis) => position * kept[axis]! + (over.has(axis) ? 0 : i), 0);
  arrayOf(x.shape, (index) => {
    const position = index.reduce((total, i, axis) => total * x.shape[axis]! + i, 0);
    result.data[place(index)]! += term(x.data[position]!);
    return 0;
  });
  return keepDims ? result : { shape: kept.filter((_, axis) => !over.has(axis)), data: result.data };
}

const countOver = (shape: readonly number[], axes: readonly number[]) =>
  axes.reduce((product, axis) => product * shape.at(axis)!, 1);

/** So that the gradient that arrives at the reduction's input depends on the input. */
const squared = (graph: Graph, x: Tensor) => mul(graph, x, x);

describeOperators(reduce, {
  sum: () => {
    testOperator("over some axes", shapeAndAxes, ({ shape, axes, keepDims }) => ({
      inputs: { x: { shape } },
      build: (graph, { x }) => sum(graph, squared(graph, x!), axes, keepDims),
      reference: ({ x }) => reducedBy(x!, axes, keepDims, (value) => value * value),
    }));
    testOperatorOnce("over an axis in the middle, which goes", {
      inputs: { x: { shape: [2, 3, 4] } },
      build: (graph, { x }) => sum(graph, squared(graph, x!), [1], false),
      reference: ({ x }) => reducedBy(x!, [1], false, (value) => value * value),
    });
    testOperatorOnce("over all axes", {
      inputs: { x: { shape: [2, 3, 2] } },
      build: (graph, { x }) => sum(graph, x!, undefined, false),
      reference: ({ x }) => reducedBy(x!, [0, 1, 2], false, (value) => value),
    });
  },
  mean: () => {
    testOperator("over some axes", shapeAndAxes, ({ shape, axes, keepDims }) => ({
      inputs: { x: { shape } },
      build: (graph, { x }) => mean(graph, squared(graph, x!), axes, keepDims),
      reference: ({ x }) => reducedBy(x!, axes, keepDims, (value) => value ** 2 / countOver(shape, axes)),
    }));
    testOperatorOnce("over an axis in the middle, which goes", {
      inputs: { x: { shape: [2, 3, 4] } },
      build: (graph, { x }) => mean(graph, squared(graph, x!), [1], false),
      reference: ({ x }) => reducedBy(x!, [1], false, (value) => value ** 2 / 3),
    });
  },
  sumOfSquares: () =>
    testOperator("over some axes", shapeAndAxes, ({ shape, axes }) => ({
      inputs: { x: { shape } },
      build: (graph, { x }) => sumOfSquares(graph, x!, axes),
      reference: ({ x }) => reducedBy(x!, axes, true, (value) => value * value),
    })),
  sumToShape: () => {
    testOperator("undoes broadcasting", shapeAndAxes, ({ shape, axes, keepDims }) => {
      // Leading axes are left out altogether where possible.
      const stretched = shape.map((length, axis) =>
        axes.includes(axis) || axes.includes(axis - shape.length) ? 1 : length,
      );
      const leading = stretched.findIndex((length) => length !== 1);
      const target = keepDims ? stretched : stretched.slice(leading < 0 ? shape.length : leading);
      return {
        inputs: { x: { shape } },
        build: (graph, { x }) => sumToShape(graph, squared(graph, x!), target),
        reference: ({ x }) => ({
          shape: target,
          data: reducedBy(x!, axes, true, (value) => value * value).data,
        }),
      };
    });
    testOperatorOnce("keeps a symbolic axis", {
      inputs: { x: { shape: [3, "rank", 2], trainable: false } },
      symbols: [{ rank: 1 }, { rank: 3 }],
      build: (graph, { x }) => sumToShape(graph, x!, ["rank", 1]),
      reference: ({ x }) => {
        const total = reducedBy(x!, [0, 2], true, (value) => value);
        return map((value) => value, { shape: total.shape.slice(1), data: total.data });
      },
    });
  },
});
