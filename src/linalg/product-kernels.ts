/**
 * The inner loops of matrix products, over strips whose rows are `STRIP_STRIDE` apart.
 *
 * A tile of 4 x 2 vectors keeps its sums in registers: with the six vectors that a step loads they just fit into the sixteen
 * that there are. Larger tiles and unrolled steps spill, and take longer. The loops over the tiles are here, too: called from
 * TypeScript tile by tile, a product in float32 took 1.4 times as long.
 */
import { ELEMENT_BYTES, SINGLE_BYTES, STRIP_STRIDE, VECTOR_BYTES } from "./layout.js";
import {
  advance,
  type Code,
  demote,
  type FunctionDescription,
  firstHalves,
  get,
  intAdd,
  intConstant,
  intMul,
  type Local,
  lanesSum,
  lastHalves,
  load,
  loadNumber,
  loadSplat,
  loadSplatSingle,
  mul,
  numberAdd,
  repeatUntil,
  set,
  singleAdd,
  singleMul,
  store,
  storeNumber,
  TYPE,
  Variables,
  vectorAdd,
  zeroVector,
} from "./wasm-code.js";

/** What a kernel needs to know of the type that it computes in. */
export interface ElementType {
  readonly bytes: typeof ELEMENT_BYTES | typeof SINGLE_BYTES;
  readonly loadSplat: (address: Code, offsetBytes: number) => Code;
  readonly mul: (a: Code, b: Code) => Code;
  readonly add: (a: Code, b: Code) => Code;
}

export const DOUBLE: ElementType = { bytes: ELEMENT_BYTES, loadSplat, mul, add: vectorAdd };
export const SINGLE: ElementType = {
  bytes: SINGLE_BYTES,
  loadSplat: loadSplatSingle,
  mul: singleMul,
  add: singleAdd,
};

/** Rows of `x` and `y` in one tile of `dotBlock`. */
export const DOT_TILE = { x: 4, y: 2 } as const;

/** Rows in one tile of `combineBlock`. */
export const COMBINE_ROWS = 4;
/** Vectors of columns in one tile of `combineBlock`. */
const COMBINE_VECTORS = 2;

/** Columns in one tile of `combineBlock`. */
export function combineColumns({ bytes }: ElementType): number {
  return (COMBINE_VECTORS * VECTOR_BYTES) / bytes;
}

const STRIP_ROW_BYTES = STRIP_STRIDE * ELEMENT_BYTES;

/**
 * `(x, xEnd, y, yEnd, yEndStep, lengthBytes, out, outRowBytes)`: adds the dot products of all rows of two strips to `out`.
 *
 * `yEnd` moves by `yEndStep` after every four rows of `x`: of a symmetric matrix only the lower triangle is needed.
 */
export function dotBlock(): FunctionDescription {
  const variables = new Variables();
  const [x, xEnd, y, yEnd, yEndStep, length, out, outRowBytes] = Array.from({ length: 8 }, () =>
    variables.parameter(TYPE.i32),
  ) as [Local, Local, Local, Local, Local, Local, Local, Local];
  const [row, rowOut, tileOut, xAt, yAt, end] = variables.locals(6, TYPE.i32) as [
    Local,
    Local,
    Local,
    Local,
    Local,
    Local,
  ];
  const sums = variables.locals(DOT_TILE.x * DOT_TILE.y, TYPE.v128);
  const ys = variables.locals(DOT_TILE.y, TYPE.v128);
  const xi = variables.local(TYPE.v128);
  const xRows = Array.from({ length: DOT_TILE.x }, (_, i) => i);
  const sum = (i: number, j: number) => sums[i * DOT_TILE.y + j]!;
  return variables.describe(
    repeatUntil(x, xEnd, [
      ...set(row, get(y)),
      ...set(rowOut, get(out)),
      ...set(end, intAdd(get(x), get(length))),
      ...repeatUntil(row, yEnd, [
        ...sums.flatMap((each) => set(each, zeroVector)),
        ...set(xAt, get(x)),
        ...set(yAt, get(row)),
        ...repeatUntil(xAt, end, [
          ...ys.flatMap((yj, j) => set(yj, load(get(yAt), j * STRIP_ROW_BYTES))),
          ...xRows.flatMap((i) => [
            ...set(xi, load(get(xAt), i * STRIP_ROW_BYTES)),
            ...ys.flatMap((yj, j) => set(sum(i, j), vectorAdd(get(sum(i, j)), mul(get(xi), get(yj))))),
          ]),
          ...advance(xAt, VECTOR_BYTES),
          ...advance(yAt, VECTOR_BYTES),
        ]),
        ...set(tileOut, get(rowOut)),
        ...xRows.flatMap((i) => [
          ...ys.flatMap((_, j) => {
            const offset = j * ELEMENT_BYTES;
            const before = loadNumber(get(tileOut), offset);
            return storeNumber(get(tileOut), numberAdd(before, lanesSum(sum(i, j))), offset);
          }),
          ...set(tileOut, intAdd(get(tileOut), get(outRowBytes))),
        ]),
        ...advance(rowOut, DOT_TILE.y * ELEMENT_BYTES),
        ...advance(row, DOT_TILE.y * STRIP_ROW_BYTES),
      ]),
      ...advance(x, DOT_TILE.x * STRIP_ROW_BYTES),
      ...set(out, intAdd(get(out), intMul(get(outRowBytes), intConstant(DOT_TILE.x)))),
      ...set(yEnd, intAdd(get(yEnd), get(yEndStep))),
    ]),
  );
}

/**
 * `(a, aEnd, panelBytes, x, xEnd, out, skip, columnSkip, rowSkip)`: the strip `out = A · X`, columns `[x, xEnd)` of it.
 *
 * `a` has the coefficients in panels of four rows of A, interleaved: those for row 0 of X, then those for row 1, …
 *
 * The first `skip` rows of X are left out, `columnSkip` more after each tile of columns, and `rowSkip` more after each tile of rows:
 * where a factor is triangular, they are multiplied with zeros.
 */
export function combineBlock(type: ElementType): FunctionDescription {
  const variables = new Variables();
  const [a, aEnd, panelBytes, x, xEnd, out, skip, columnSkip, rowSkip] = Array.from({ length: 9 }, () =>
    variables.parameter(TYPE.i32),
  ) as [Local, Local, Local, Local, Local, Local, Local, Local, Local];
  const [panel, tileSkip, tileOut, aAt, tileEnd, xAt] = variables.locals(6, TYPE.i32) as [
    Local,
    Local,
    Local,
    Local,
    Local,
    Local,
  ];
  const sums = variables.locals(COMBINE_ROWS * COMBINE_VECTORS, TYPE.v128);
  const xs = variables.locals(COMBINE_VECTORS, TYPE.v128);
  const ai = variables.local(TYPE.v128);
  const rows = Array.from({ length: COMBINE_ROWS }, (_, i) => i);
  const sum = (i: number, j: number) => sums[i * COMBINE_VECTORS + j]!;
  const stripRowBytes = STRIP_STRIDE * type.bytes;
  const aRowBytes = COMBINE_ROWS * type.bytes;
  return variables.describe(
    repeatUntil(x, xEnd, [
      ...set(panel, get(a)),
      ...set(tileSkip, get(skip)),
      ...set(tileOut, get(out)),
      ...repeatUntil(panel, aEnd, [
        ...sums.flatMap((each) => set(each, zeroVector)),
        ...set(aAt, intAdd(get(panel), intMul(get(tileSkip), intConstant(aRowBytes)))),
        ...set(xAt, intAdd(get(x), intMul(get(tileSkip), intConstant(stripRowBytes)))),
        ...set(tileEnd, intAdd(get(panel), get(panelBytes))),
        ...repeatUntil(aAt, tileEnd, [
          ...xs.flatMap((xj, j) => set(xj, load(get(xAt), j * VECTOR_BYTES))),
          ...rows.flatMap((i) => [
            ...set(ai, type.loadSplat(get(aAt), i * type.bytes)),
            ...xs.flatMap((xj, j) => set(sum(i, j), type.add(get(sum(i, j)), type.mul(get(ai), get(xj))))),
          ]),
          ...advance(aAt, aRowBytes),
          ...advance(xAt, stripRowBytes),
        ]),
        ...rows.flatMap((i) =>
          xs.flatMap((_, j) => store(get(tileOut), get(sum(i, j)), i * stripRowBytes + j * VECTOR_BYTES)),
        ),
        ...advance(tileOut, COMBINE_ROWS * stripRowBytes),
        ...set(tileSkip, intAdd(get(tileSkip), get(rowSkip))),
        ...set(panel, get(tileEnd)),
      ]),
      ...set(skip, intAdd(get(skip), get(columnSkip))),
      ...advance(out, COMBINE_VECTORS * VECTOR_BYTES),
      ...advance(x, COMBINE_VECTORS * VECTOR_BYTES),
    ]),
  );
}

/**
 * `(source, sourceEnd, sourceRowBytes, target)`: four rows of float64 as a panel of `combineBlock`; up to the end of the first row, two columns
 * at a time.
 */
export function packPanel(type: ElementType): FunctionDescription {
  const variables = new Variables();
  const [source, sourceEnd, sourceRowBytes, target] = Array.from({ length: 4 }, () =>
    variables.parameter(TYPE.i32),
  ) as [Local, Local, Local, Local];
  const at = variables.local(TYPE.i32);
  const rows = variables.locals(COMBINE_ROWS, TYPE.v128);
  const [a, b, c, d] = rows.map(get) as [Code, Code, Code, Code];
  const columns = [
    [firstHalves(a, b), firstHalves(c, d)],
    [lastHalves(a, b), lastHalves(c, d)],
  ] as const;
  const vectors =
    type === DOUBLE ? columns.flat() : columns.map(([ab, cd]) => firstHalves(demote(ab), demote(cd)));
  return variables.describe(
    repeatUntil(source, sourceEnd, [
      ...set(at, get(source)),
      ...rows.flatMap((row) => [
        ...set(row, load(get(at))),
        ...set(at, intAdd(get(at), get(sourceRowBytes))),
      ]),
      ...vectors.flatMap((vector, j) => store(get(target), vector, j * VECTOR_BYTES)),
      ...advance(source, VECTOR_BYTES),
      ...advance(target, vectors.length * VECTOR_BYTES),
    ]),
  );
}
