/** Symbolic tensors: a name, an element type and a shape; no numbers. */

import { internalError } from "../errors.js";

export type ElementType = "float32" | "float16" | "bfloat16" | "int64" | "int32" | "bool";

/** Bytes of one element. */
export const ELEMENT_SIZE_BYTES: Readonly<Record<ElementType, number>> = {
  float32: 4,
  float16: 2,
  bfloat16: 2,
  int64: 8,
  int32: 4,
  bool: 1,
};

/** An axis length: a number, or the name of a length that is known only when the graph runs (a LoRA rank). */
export type Dim = number | string;
export type Shape = readonly Dim[];

/** A value in a graph. Tensors are compared by identity and belong to the graph that made them. */
export interface Tensor {
  readonly name: string;
  readonly dtype: ElementType;
  readonly shape: Shape;
  /** Whether a gradient can flow from this tensor to a trainable input. */
  readonly needsGradient: boolean;
}

export function formatShape(shape: Shape): string {
  return `[${shape.join(", ")}]`;
}

/** The number of elements; every axis must be a number. */
export function elementCount(shape: Shape): number {
  return fixedShape(shape).reduce((product, dim) => product * dim, 1);
}

/** The shape as numbers. Throws when an axis is symbolic. */
export function fixedShape(shape: Shape): number[] {
  return shape.map((dim) => {
    if (typeof dim !== "number")
      throw internalError(`axis ${dim} of ${formatShape(shape)} has no fixed length`);
    return dim;
  });
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((dim, axis) => dim === b[axis]);
}

/** A non-negative axis number for an axis that may count from the end. */
export function normalizeAxis(axis: number, rank: number): number {
  const normalized = axis < 0 ? axis + rank : axis;
  if (normalized < 0 || normalized >= rank) throw internalError(`axis ${axis} of a tensor with ${rank} axes`);
  return normalized;
}

/** The shape of an elementwise operation on two shapes (NumPy broadcasting rules). */
export function broadcastShapes(a: Shape, b: Shape): Dim[] {
  const rank = Math.max(a.length, b.length);
  const result: Dim[] = [];
  for (let axis = 0; axis < rank; axis++) {
    const left = a[axis - rank + a.length] ?? 1;
    const right = b[axis - rank + b.length] ?? 1;
    if (left !== right && left !== 1 && right !== 1) {
      throw internalError(`shapes ${formatShape(a)} and ${formatShape(b)} do not broadcast`);
    }
    result.push(left === 1 ? right : left);
  }
  return result;
}
