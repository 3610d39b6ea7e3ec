/**
 * Arrays of float64 numbers for plain reference implementations: slow, short, and written from the definitions, so that
 * a reader can check them by eye.
 */

export interface ReferenceArray {
  readonly shape: readonly number[];
  /** Row-major. */
  readonly data: Float64Array;
}

export type Index = readonly number[];

export function elementCountOf(shape: readonly number[]): number {
  return shape.reduce((product, length) => product * length, 1);
}

/** The array of `shape` whose element at `index` is `valueAt(index)`. */
export function arrayOf(shape: readonly number[], valueAt: (index: number[]) => number): ReferenceArray {
  const data = new Float64Array(elementCountOf(shape));
  const index = shape.map(() => 0);
  for (let position = 0; position < data.length; position++) {
    data[position] = valueAt(index);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index[axis]!++;
      if (index[axis]! < shape[axis]!) break;
      index[axis] = 0;
    }
  }
  return { shape, data };
}

/**
 * Where the element at `index` lies in the data of an array of `shape`, with NumPy's broadcasting: an index with more axes
 * than the array is matched from the last axis backwards, and an axis of length 1 has the same element everywhere.
 */
export function positionOf(shape: readonly number[], index: readonly number[]): number {
  const added = index.length - shape.length;
  let position = 0;
  for (let axis = 0; axis < shape.length; axis++) {
    const length = shape[axis]!;
    position = position * length + (length === 1 ? 0 : index[axis + added]!);
  }
  return position;
}

/** The element at `index`, with broadcasting ({@link positionOf}). */
export function at(array: ReferenceArray, ...index: readonly number[]): number {
  return array.data[positionOf(array.shape, index)]!;
}

/** The shape that arrays of these shapes broadcast to. */
export function broadcast(...shapes: readonly (readonly number[])[]): number[] {
  const rank = Math.max(...shapes.map((shape) => shape.length));
  return Array.from({ length: rank }, (_, axis) => {
    const lengths = shapes.map((shape) => shape[axis - rank + shape.length] ?? 1);
    return lengths.find((length) => length !== 1) ?? 1;
  });
}

/** `compute` on every element, with broadcasting. */
export function map(
  compute: (...values: number[]) => number,
  ...arrays: readonly ReferenceArray[]
): ReferenceArray {
  const shape = broadcast(...arrays.map((array) => array.shape));
  return arrayOf(shape, (index) => compute(...arrays.map((array) => at(array, ...index))));
}

/** Sum of `term(i)` for `i` from 0 to `count - 1`. */
export function sumOf(count: number, term: (i: number) => number): number {
  let total = 0;
  for (let i = 0; i < count; i++) total += term(i);
  return total;
}

/** `Σ a[i] b[i]` over all elements. */
export function dot(a: ReferenceArray, b: ReferenceArray): number {
  return sumOf(a.data.length, (i) => a.data[i]! * b.data[i]!);
}

/** Euclidean norm over all elements. */
export function norm(a: ReferenceArray): number {
  return Math.sqrt(dot(a, a));
}
