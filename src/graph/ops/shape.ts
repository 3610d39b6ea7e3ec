/** Operations that move or repeat elements without arithmetic. */

import { internalError } from "../../errors.js";
import type { Graph } from "../graph.js";
import { exactWherePossible, rounded, unroundedWherePossible } from "../half-products.js";
import {
  type Dim,
  fixedShape,
  formatShape,
  normalizeAxis,
  type Shape,
  sameShape,
  type Tensor,
} from "../tensor.js";
import { sumToShape } from "./reduce.js";

/** The same elements in row-major order under another shape. At most one axis of `shape` may be symbolic. */
export function reshape(graph: Graph, x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return x;
  checkReshape(x.shape, shape);
  // -1: ONNX derives a symbolic axis from the number of elements.
  const target = shape.map((dim) => (typeof dim === "number" ? dim : -1));
  return graph.operation1(
    "reshape",
    [x],
    () =>
      unroundedWherePossible(graph, [x], (exact) =>
        graph.node1({
          op: "Reshape",
          inputs: [exact!, graph.constant(target, "int64")],
          outputs: [{ shape, dtype: exact!.dtype }],
        }),
      ),
    (dy) => [reshape(graph, dy, x.shape)],
  );
}

function checkReshape(from: Shape, to: Shape): void {
  const product = (shape: Shape) =>
    shape.reduce<number>((total, dim) => (typeof dim === "number" ? total * dim : total), 1);
  const symbols = (shape: Shape) => shape.filter((dim) => typeof dim === "string").join();
  if (symbols(from) !== symbols(to) || symbols(to).includes(",") || product(from) !== product(to)) {
    throw internalError(`cannot reshape ${formatShape(from)} to ${formatShape(to)}`);
  }
}

/** Axis `i` of the result is axis `permutation[i]` of `x`. */
export function transpose(graph: Graph, x: Tensor, permutation: readonly number[]): Tensor {
  if (permutation.length !== x.shape.length) {
    throw internalError(`transpose ${formatShape(x.shape)} by [${permutation.join(", ")}]`);
  }
  const inverse = permutation.map((_, axis) => permutation.indexOf(axis));
  return graph.operation1(
    "transpose",
    [x],
    () =>
      unroundedWherePossible(graph, [x], (exact) =>
        graph.node1({
          op: "Transpose",
          inputs: [exact!],
          attributes: { perm: permutation },
          outputs: [{ shape: permutation.map((axis) => x.shape[axis]!), dtype: exact!.dtype }],
        }),
      ),
    (dy) => [transpose(graph, dy, inverse)],
  );
}

/** Repeats `x` along axes of length 1 until it has `shape` (of fixed lengths). */
export function expand(graph: Graph, x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return x;
  return graph.operation1(
    "expand",
    [x],
    () =>
      graph.node1({
        op: "Expand",
        inputs: [x, graph.constant(fixedShape(shape), "int64")],
        outputs: [{ shape, dtype: x.dtype }],
      }),
    (dy) => [sumToShape(graph, dy, x.shape)],
  );
}

/** Joins tensors along one axis. */
export function concat(graph: Graph, parts: readonly Tensor[], axis: number): Tensor {
  const first = parts[0]!;
  if (parts.length === 1) return first;
  const along = normalizeAxis(axis, first.shape.length);
  const lengths = parts.map((part) => fixedShape([part.shape[along]!])[0]!);
  const shape: Dim[] = [...first.shape];
  shape[along] = lengths.reduce((total, length) => total + length, 0);
  return graph.operation1(
    "concat",
    parts,
    () =>
      unroundedWherePossible(graph, parts, (...exact) =>
        graph.node1({
          op: "Concat",
          inputs: exact,
          attributes: { axis: along },
          outputs: [{ shape, dtype: exact[0]!.dtype }],
        }),
      ),
    (dy, wanted) => {
      let begin = 0;
      return parts.map((_, position) => {
        const from = begin;
        begin += lengths[position]!;
        return wanted[position] ? slice(graph, dy, along, from, begin) : null;
      });
    },
  );
}

/** Elements `begin` to `end` (exclusive) along one axis. */
export function slice(graph: Graph, x: Tensor, axis: number, begin: number, end: number): Tensor {
  const along = normalizeAxis(axis, x.shape.length);
  const length = fixedShape([x.shape[along]!])[0]!;
  if (begin === 0 && end === length) return x;
  const shape: Dim[] = [...x.shape];
  shape[along] = end - begin;
  return graph.operation1(
    "slice",
    [x],
    () =>
      unroundedWherePossible(graph, [x], (exact) =>
        graph.node1({
          op: "Slice",
          inputs: [
            exact!,
            graph.constant([begin], "int64"),
            graph.constant([end], "int64"),
            graph.constant([along], "int64"),
          ],
          outputs: [{ shape, dtype: exact!.dtype }],
        }),
      ),
    (dy) => [pad(graph, dy, along, begin, length - end)],
  );
}

/** Which rows of a matrix take part in a run, and which of them learn; int64 inputs. */
export interface RowRange {
  /** Rows `0..end` take part, `[1]`. */
  end: Tensor;
  /** Of those, `trainedBegin..end` get a gradient, `[1]`. */
  trainedBegin: Tensor;
  /** Rows without gradient before and behind those, as ONNX pads a matrix: `[before, 0, behind, 0]`. */
  untrained: Tensor;
}

/**
 * The first rows of a matrix, as many as each run says. Rows outside the trained ones have the gradient zero.
 *
 * @param x - `[R, W]`
 * @param length - name of the number of rows
 * @returns `[length, W]`
 */
export function leadingRows(graph: Graph, x: Tensor, range: RowRange, length: string): Tensor {
  const [, width] = x.shape as [Dim, Dim];
  const axis = graph.constant([0], "int64");
  const rows = (of: Tensor, begin: Tensor, shape: Shape) =>
    graph.node1({ op: "Slice", inputs: [of, begin, range.end, axis], outputs: [{ shape, dtype: x.dtype }] });
  return graph.operation1(
    "leadingRows",
    [x],
    () => rows(x, axis, [length, width]),
    (dy) => {
      const trained = rows(dy, range.trainedBegin, [`${length}.trained`, width]);
      return [
        graph.node1({
          op: "Pad",
          inputs: [trained, range.untrained],
          attributes: { mode: "constant" },
          outputs: [{ shape: x.shape, dtype: x.dtype }],
        }),
      ];
    },
  );
}

/** The elements along `axes` in reverse order. */
export function reverse(graph: Graph, x: Tensor, axes: readonly number[]): Tensor {
  const alongEach = (value: number) =>
    graph.constant(
      axes.map(() => value),
      "int64",
    );
  return graph.operation1(
    "reverse",
    [x],
    () =>
      graph.node1({
        op: "Slice",
        // From the last element to the one before the first; ends are clamped.
        inputs: [x, alongEach(-1), alongEach(-(2 ** 31)), graph.constant(axes, "int64"), alongEach(-1)],
        outputs: [{ shape: x.shape, dtype: x.dtype }],
      }),
    (dy) => [reverse(graph, dy, axes)],
  );
}

/** `before` and `after` zeros around `x` along one axis. */
export function pad(graph: Graph, x: Tensor, axis: number, before: number, after: number): Tensor {
  if (before === 0 && after === 0) return x;
  const along = normalizeAxis(axis, x.shape.length);
  const length = fixedShape([x.shape[along]!])[0]!;
  const pads = new Array<number>(2 * x.shape.length).fill(0);
  pads[along] = before;
  pads[x.shape.length + along] = after;
  const shape: Dim[] = [...x.shape];
  shape[along] = length + before + after;
  return graph.operation1(
    "pad",
    [x],
    () =>
      graph.node1({
        op: "Pad",
        inputs: [x, graph.constant(pads, "int64")],
        outputs: [{ shape, dtype: x.dtype }],
      }),
    (dy) => [slice(graph, dy, along, before, before + length)],
  );
}

/** Splits one axis into consecutive parts of the given lengths. */
export function split(graph: Graph, x: Tensor, axis: number, lengths: readonly number[]): readonly Tensor[] {
  const along = normalizeAxis(axis, x.shape.length);
  return graph.operation(
    "split",
    [x],
    () => {
      const exact = exactWherePossible(graph, x);
      const parts = graph.node({
        op: "Split",
        inputs: [exact, graph.constant(lengths, "int64")],
        attributes: { axis: along },
        outputs: lengths.map((length) => ({
          shape: x.shape.map((dim, position) => (position === along ? length : dim)),
          dtype: exact.dtype,
        })),
      });
      return parts.map((part) => rounded(graph, part, x.dtype));
    },
    (dParts) => {
      // A part that nothing used has gradient zero; its neighbours are padded instead of joined then.
      if (dParts.every((part) => part !== null)) return [concat(graph, dParts as Tensor[], along)];
      throw internalError("split: a part has no gradient; use slice for parts that are not all used");
    },
  );
}

/**
 * Rows of a table by index (token embedding).
 *
 * @param table - `[rows, width]`, never trained: no gradient flows into it
 * @param indices - integers of any shape `[...]`
 * @returns `[..., width]`
 */
export function gatherRows(graph: Graph, table: Tensor, indices: Tensor): Tensor {
  return graph.node1({
    op: "Gather",
    inputs: [table, indices],
    attributes: { axis: 0 },
    outputs: [{ shape: [...indices.shape, table.shape[1]!], dtype: table.dtype }],
  });
}

/**
 * Doubles height and width by repeating every pixel (nearest neighbour).
 *
 * @param x - `[N, C, H, W]`
 * @returns `[N, C, 2H, 2W]`
 */
export function upsampleNearest2x(graph: Graph, x: Tensor): Tensor {
  const [n, c, h, w] = fixedShape(x.shape) as [number, number, number, number];
  // Reshape and expand instead of Resize: the same on every device, and the gradient is the plain sum over 2 x 2 pixels.
  const columns = expand(graph, reshape(graph, x, [n, c, h, 1, w, 1]), [n, c, h, 2, w, 2]);
  return reshape(graph, columns, [n, c, 2 * h, 2 * w]);
}
