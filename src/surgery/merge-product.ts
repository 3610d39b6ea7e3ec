/** The product of two factors, a few rows at a time. */

/** One addend of a weight's change: `scale · up · down`. */
export interface ProductTerm {
  /** `[O, rank]`, row-major. */
  readonly up: Float32Array;
  /** `[rank, columns]`, row-major. */
  readonly down: Float32Array;
  readonly rank: number;
  readonly scale: number;
}

/** Rows and components that the inner loop takes at once: each number of `down` that is read then serves four rows. */
const TILE = 4;

/**
 * Adds rows of `scale · up · down`, in float64.
 *
 * @param target - `[rows, columns]`: the rows from `firstRow` on
 */
export function addProductRows(
  target: Float64Array,
  columns: number,
  term: ProductTerm,
  firstRow: number,
): void {
  const rows = target.length / columns;
  const tiledRows = rows - (rows % TILE);
  const tiledRank = term.rank - (term.rank % TILE);
  for (let row = 0; row < tiledRows; row += TILE) {
    for (let k = 0; k < tiledRank; k += TILE) addTile(target, columns, term, row, firstRow, k);
  }
  for (let row = 0; row < rows; row++) {
    const firstLeft = row < tiledRows ? tiledRank : 0;
    for (let k = firstLeft; k < term.rank; k++) addComponent(target, columns, term, row, firstRow, k);
  }
}

function addTile(
  target: Float64Array,
  columns: number,
  { up, down, rank, scale }: ProductTerm,
  row: number,
  firstRow: number,
  k: number,
): void {
  const u0 = (firstRow + row) * rank + k;
  const [u1, u2, u3] = [u0 + rank, u0 + 2 * rank, u0 + 3 * rank];
  const [a0, a1, a2, a3] = [up[u0]! * scale, up[u0 + 1]! * scale, up[u0 + 2]! * scale, up[u0 + 3]! * scale];
  const [b0, b1, b2, b3] = [up[u1]! * scale, up[u1 + 1]! * scale, up[u1 + 2]! * scale, up[u1 + 3]! * scale];
  const [c0, c1, c2, c3] = [up[u2]! * scale, up[u2 + 1]! * scale, up[u2 + 2]! * scale, up[u2 + 3]! * scale];
  const [d0, d1, d2, d3] = [up[u3]! * scale, up[u3 + 1]! * scale, up[u3 + 2]! * scale, up[u3 + 3]! * scale];
  const in0 = k * columns;
  const [in1, in2, in3] = [in0 + columns, in0 + 2 * columns, in0 + 3 * columns];
  const out0 = row * columns;
  const [out1, out2, out3] = [out0 + columns, out0 + 2 * columns, out0 + 3 * columns];
  for (let i = 0; i < columns; i++) {
    const x0 = down[in0 + i]!;
    const x1 = down[in1 + i]!;
    const x2 = down[in2 + i]!;
    const x3 = down[in3 + i]!;
    target[out0 + i] = target[out0 + i]! + a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3;
    target[out1 + i] = target[out1 + i]! + b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3;
    target[out2 + i] = target[out2 + i]! + c0 * x0 + c1 * x1 + c2 * x2 + c3 * x3;
    target[out3 + i] = target[out3 + i]! + d0 * x0 + d1 * x1 + d2 * x2 + d3 * x3;
  }
}

function addComponent(
  target: Float64Array,
  columns: number,
  { up, down, rank, scale }: ProductTerm,
  row: number,
  firstRow: number,
  k: number,
): void {
  const a = up[(firstRow + row) * rank + k]! * scale;
  const input = k * columns;
  const out = row * columns;
  for (let i = 0; i < columns; i++) target[out + i] = target[out + i]! + a * down[input + i]!;
}
