/**
 * A copy with its axes in another order.
 *
 * @param values - row-major, of `shape`
 * @param permutation - axis `i` of the result is axis `permutation[i]` of `values`
 */
export function transposed(
  values: Float32Array,
  shape: readonly number[],
  permutation: readonly number[],
): Float32Array<ArrayBuffer> {
  const result = new Float32Array(values.length);
  const strides = stridesOf(shape);
  // Axes that stay behind each other at the end are moved as one piece.
  let kept = permutation.length;
  while (kept > 0 && permutation[kept - 1] === kept - 1) kept--;
  const piece = shape.slice(kept).reduce((product, length) => product * length, 1);
  const lengths = permutation.slice(0, kept).map((axis) => shape[axis]!);
  const steps = permutation.slice(0, kept).map((axis) => strides[axis]!);
  if (kept === 0) {
    result.set(values);
    return result;
  }
  const [rows, columns] = [lengths[kept - 2] ?? 1, lengths[kept - 1]!];
  const [rowStep, columnStep] = [steps[kept - 2] ?? 0, steps[kept - 1]!];
  const matrices = result.length / (rows * columns * piece);
  for (let matrix = 0; matrix < matrices; matrix++) {
    const from = offsetOf(matrix, lengths.slice(0, -2), steps.slice(0, -2));
    const to = matrix * rows * columns * piece;
    copyMatrix(values, from, rowStep, columnStep, result, to, rows, columns, piece);
  }
  return result;
}

/** Side of the squares that are copied at once: the rows that are read and those that are written stay in the cache. */
const TILE = 16;

function copyMatrix(
  source: Float32Array,
  from: number,
  rowStep: number,
  columnStep: number,
  target: Float32Array,
  to: number,
  rows: number,
  columns: number,
  piece: number,
): void {
  const copyRow = piece === 1 ? copyNumbers : piece === 9 ? copyKernels : copyPieces;
  for (let firstRow = 0; firstRow < rows; firstRow += TILE) {
    const lastRow = Math.min(firstRow + TILE, rows);
    for (let first = 0; first < columns; first += TILE) {
      const count = Math.min(TILE, columns - first);
      for (let row = firstRow; row < lastRow; row++) {
        const read = from + row * rowStep + first * columnStep;
        copyRow(source, read, columnStep, target, to + (row * columns + first) * piece, count, piece);
      }
    }
  }
}

function copyNumbers(
  source: Float32Array,
  read: number,
  step: number,
  target: Float32Array,
  write: number,
  count: number,
): void {
  for (let index = 0; index < count; index++) target[write + index] = source[read + index * step]!;
}

/** 3x3 kernels. As a loop over a number of taps that is not known it would take four times as long. */
function copyKernels(
  source: Float32Array,
  first: number,
  step: number,
  target: Float32Array,
  to: number,
  count: number,
): void {
  let read = first;
  let write = to;
  for (let index = 0; index < count; index++) {
    target[write] = source[read]!;
    target[write + 1] = source[read + 1]!;
    target[write + 2] = source[read + 2]!;
    target[write + 3] = source[read + 3]!;
    target[write + 4] = source[read + 4]!;
    target[write + 5] = source[read + 5]!;
    target[write + 6] = source[read + 6]!;
    target[write + 7] = source[read + 7]!;
    target[write + 8] = source[read + 8]!;
    read += step;
    write += 9;
  }
}

function copyPieces(
  source: Float32Array,
  first: number,
  step: number,
  target: Float32Array,
  to: number,
  count: number,
  piece: number,
): void {
  for (let index = 0; index < count; index++) {
    const read = first + index * step;
    target.set(source.subarray(read, read + piece), to + index * piece);
  }
}

function stridesOf(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length).fill(1);
  for (let axis = shape.length - 2; axis >= 0; axis--) strides[axis] = strides[axis + 1]! * shape[axis + 1]!;
  return strides;
}

/** Where the matrix of a number begins, counted through the leading axes row by row. */
function offsetOf(index: number, lengths: readonly number[], steps: readonly number[]): number {
  let offset = 0;
  for (let axis = lengths.length - 1, rest = index; axis >= 0; axis--) {
    offset += (rest % lengths[axis]!) * steps[axis]!;
    rest = Math.floor(rest / lengths[axis]!);
  }
  return offset;
}
