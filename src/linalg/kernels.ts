/**
 * Inner loops over float64 matrices, as WebAssembly SIMD.
 *
 * A product with a matrix of 128 x 1280 runs at 8 GFLOP/s; written in TypeScript, which V8 compiles to scalar code, at 1.2
 * (Node 20, one core of a 2.5 GHz Xeon). A resize spends most of its time here.
 *
 * All kernels work on one memory, the workspace: whoever calls them lays out matrices in it from address 0, and what it held
 * before is lost. Rows are `rowStride` apart; lengths are in elements and multiples of `LANES`, which zeros fill up.
 */
import { expandHalves, roundToHalves } from "./half-floats.js";
import type { InputValues } from "./matrix.js";
import {
  advance,
  type Code,
  createMemory,
  type FunctionDescription,
  get,
  instantiate,
  intAdd,
  intConstant,
  type Local,
  lanesSum,
  load,
  loadNumber,
  loadSplat,
  mul,
  numberAdd,
  numberMul,
  PAGE_BYTES,
  repeatUntil,
  set,
  splat,
  store,
  storeNumber,
  sub,
  TYPE,
  Variables,
  vectorAdd,
  zeroVector,
} from "./wasm-code.js";

/** Every length is a multiple of it: the kernels take four vectors of two float64 at a time. */
export const LANES = 8;
const ELEMENT_BYTES = 8;
const VECTOR_BYTES = 16;
const STEP_BYTES = LANES * ELEMENT_BYTES;
const STEP_OFFSETS = [0, 16, 32, 48] as const;

/** Columns of a long matrix that are worked on at once: with 128 rows they stay in a second-level cache. */
export const STRIP_COLUMNS = 256;

/**
 * Distance between rows: at least `columns`, and no power of two, which would put all rows on the same few lines of a cache.
 *
 * @returns elements
 */
export function rowStride(columns: number): number {
  return roundUp(columns, LANES) + LANES;
}

export function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}

const STRIP_ROW_BYTES = rowStride(STRIP_COLUMNS) * ELEMENT_BYTES;

/** Rows of `x` and `y` in one tile of `dotTile`. */
export const DOT_TILE = { x: 4, y: 2 } as const;
/** Rows and columns of one tile of `combineTile`. */
export const COMBINE_TILE = { rows: 4, columns: 4 } as const;

const int = (variables: Variables, count: number): Local[] =>
  Array.from({ length: count }, () => variables.parameter(TYPE.i32));
const accumulate = (sum: Local, value: Code): Code => set(sum, vectorAdd(get(sum), value));

/** `(x, y, xEnd, out, outRowBytes)`: adds the dot products of 4 rows with 2 rows of strips to a 4 x 2 tile of `out`. */
function dotTile(): FunctionDescription {
  const variables = new Variables();
  const [x, y, end, out, outRowBytes] = int(variables, 5) as [Local, Local, Local, Local, Local];
  const sums = variables.locals(DOT_TILE.x * DOT_TILE.y, TYPE.v128);
  const ys = variables.locals(DOT_TILE.y, TYPE.v128);
  const xi = variables.local(TYPE.v128);
  const sum = (i: number, j: number) => sums[i * DOT_TILE.y + j]!;
  const products = Array.from({ length: DOT_TILE.x }, (_, i) => [
    ...set(xi, load(get(x), i * STRIP_ROW_BYTES)),
    ...ys.flatMap((yj, j) => accumulate(sum(i, j), mul(get(xi), get(yj)))),
  ]);
  const stores = Array.from({ length: DOT_TILE.x }, (_, i) => [
    ...ys.flatMap((_, j) => {
      const offset = j * ELEMENT_BYTES;
      return storeNumber(get(out), numberAdd(loadNumber(get(out), offset), lanesSum(sum(i, j))), offset);
    }),
    ...set(out, intAdd(get(out), get(outRowBytes))),
  ]);
  return variables.describe([
    ...repeatUntil(x, end, [
      ...ys.flatMap((yj, j) => set(yj, load(get(y), j * STRIP_ROW_BYTES))),
      ...products.flat(),
      ...advance(x, VECTOR_BYTES),
      ...advance(y, VECTOR_BYTES),
    ]),
    ...stores.flat(),
  ]);
}

/**
 * `(a, aEnd, x, out)`: a 4 x 4 tile of a strip `out = A · X`.
 *
 * `a` has the four rows' coefficients interleaved: of row 0 to 3 of A those for row 0 of X, then those for row 1 of X, …
 */
function combineTile(): FunctionDescription {
  const variables = new Variables();
  const [a, end, x, out] = int(variables, 4) as [Local, Local, Local, Local];
  const vectors = (COMBINE_TILE.columns * ELEMENT_BYTES) / VECTOR_BYTES;
  const sums = variables.locals(COMBINE_TILE.rows * vectors, TYPE.v128);
  const xs = variables.locals(vectors, TYPE.v128);
  const ai = variables.local(TYPE.v128);
  const sum = (i: number, j: number) => sums[i * vectors + j]!;
  const rows = Array.from({ length: COMBINE_TILE.rows }, (_, i) => i);
  return variables.describe([
    ...repeatUntil(a, end, [
      ...xs.flatMap((xj, j) => set(xj, load(get(x), j * VECTOR_BYTES))),
      ...rows.flatMap((i) => [
        ...set(ai, loadSplat(get(a), i * ELEMENT_BYTES)),
        ...xs.flatMap((xj, j) => accumulate(sum(i, j), mul(get(ai), get(xj)))),
      ]),
      ...advance(a, COMBINE_TILE.rows * ELEMENT_BYTES),
      ...advance(x, STRIP_ROW_BYTES),
    ]),
    ...rows.flatMap((i) =>
      xs.flatMap((_, j) => store(get(out), get(sum(i, j)), i * STRIP_ROW_BYTES + j * VECTOR_BYTES)),
    ),
  ]);
}

/** `(v, vEnd, row, rowsEnd, rowBytes, beta)`: `row -= beta · (row · v) · v` for every row: a reflection from the right. */
function reflectRows(): FunctionDescription {
  const variables = new Variables();
  const [v, vEnd, row, rowsEnd, rowBytes] = int(variables, 5) as [Local, Local, Local, Local, Local];
  const beta = variables.parameter(TYPE.f64);
  const [at, vAt] = variables.locals(2, TYPE.i32) as [Local, Local];
  const sums = variables.locals(STEP_OFFSETS.length, TYPE.v128);
  const factor = variables.local(TYPE.v128);
  const [first, ...others] = sums as [Local, ...Local[]];
  const move = [...advance(at, STEP_BYTES), ...advance(vAt, STEP_BYTES)];
  const toStart = [...set(at, get(row)), ...set(vAt, get(v))];
  return variables.describe(
    repeatUntil(row, rowsEnd, [
      ...sums.flatMap((sum) => set(sum, zeroVector)),
      ...toStart,
      ...repeatUntil(vAt, vEnd, [
        ...sums.flatMap((sum, j) =>
          accumulate(sum, mul(load(get(at), STEP_OFFSETS[j]), load(get(vAt), STEP_OFFSETS[j]))),
        ),
        ...move,
      ]),
      ...others.flatMap((sum) => accumulate(first, get(sum))),
      ...set(factor, splat(numberMul(get(beta), lanesSum(first)))),
      ...toStart,
      ...repeatUntil(vAt, vEnd, [
        ...STEP_OFFSETS.flatMap((offset) =>
          store(get(at), sub(load(get(at), offset), mul(get(factor), load(get(vAt), offset))), offset),
        ),
        ...move,
      ]),
      ...set(row, intAdd(get(row), get(rowBytes))),
    ]),
  );
}

/**
 * `(u, row, rowsEnd, rowBytes, y, yEnd, beta)`: `row_i -= beta · u_i · y` with `y = Σ u_i · row_i`: a reflection from the left.
 * `y` is scratch space as long as the part of the rows that is worked on.
 */
function reflectColumns(): FunctionDescription {
  const variables = new Variables();
  const [u, row, rowsEnd, rowBytes, y, yEnd] = int(variables, 6) as [
    Local,
    Local,
    Local,
    Local,
    Local,
    Local,
  ];
  const beta = variables.parameter(TYPE.f64);
  const [uAt, rowAt, at, yAt] = variables.locals(4, TYPE.i32) as [Local, Local, Local, Local];
  const factor = variables.local(TYPE.v128);
  const overRow = (combine: (offset: number) => Code) => [
    ...set(at, get(rowAt)),
    ...set(yAt, get(y)),
    ...repeatUntil(yAt, yEnd, [
      ...STEP_OFFSETS.flatMap(combine),
      ...advance(at, STEP_BYTES),
      ...advance(yAt, STEP_BYTES),
    ]),
  ];
  const overRows = (scale: Code, body: Code) => [
    ...set(rowAt, get(row)),
    ...set(uAt, get(u)),
    ...repeatUntil(rowAt, rowsEnd, [
      ...set(factor, splat(scale)),
      ...body,
      ...set(rowAt, intAdd(get(rowAt), get(rowBytes))),
      ...advance(uAt, ELEMENT_BYTES),
    ]),
  ];
  const ui = loadNumber(get(uAt));
  return variables.describe([
    ...set(yAt, get(y)),
    ...repeatUntil(yAt, yEnd, [
      ...STEP_OFFSETS.flatMap((offset) => store(get(yAt), zeroVector, offset)),
      ...advance(yAt, STEP_BYTES),
    ]),
    ...overRows(
      ui,
      overRow((offset) =>
        store(get(yAt), vectorAdd(load(get(yAt), offset), mul(get(factor), load(get(at), offset))), offset),
      ),
    ),
    ...overRows(
      numberMul(get(beta), ui),
      overRow((offset) =>
        store(get(at), sub(load(get(at), offset), mul(get(factor), load(get(yAt), offset))), offset),
      ),
    ),
  ]);
}

/**
 * `(row, rowEnd, rowBytes, rotations, rotationsEnd)`: plane rotations of neighbouring rows, one after the other:
 * rows 0 and 1, then 1 and 2, …: `(a, b) -> (c a + s b, c b - s a)`; `rotations` has c and s of each.
 */
function rotateRows(): FunctionDescription {
  const variables = new Variables();
  const [row, rowEnd, rowBytes, rotations, rotationsEnd] = int(variables, 5) as [
    Local,
    Local,
    Local,
    Local,
    Local,
  ];
  const [at, rotation] = variables.locals(2, TYPE.i32) as [Local, Local];
  const upper = variables.locals(STEP_OFFSETS.length, TYPE.v128);
  const [c, s, b] = variables.locals(3, TYPE.v128) as [Local, Local, Local];
  return variables.describe(
    // Eight columns from top to bottom: the row between two rotations stays in registers.
    repeatUntil(row, rowEnd, [
      ...set(at, get(row)),
      ...set(rotation, get(rotations)),
      ...upper.flatMap((a, j) => set(a, load(get(at), STEP_OFFSETS[j]))),
      ...repeatUntil(rotation, rotationsEnd, [
        ...set(c, loadSplat(get(rotation))),
        ...set(s, loadSplat(get(rotation), ELEMENT_BYTES)),
        ...upper.flatMap((a, j) => [
          ...set(b, load(intAdd(get(at), get(rowBytes)), STEP_OFFSETS[j])),
          ...store(get(at), vectorAdd(mul(get(c), get(a)), mul(get(s), get(b))), STEP_OFFSETS[j]),
          ...set(a, sub(mul(get(c), get(b)), mul(get(s), get(a)))),
        ]),
        ...set(at, intAdd(get(at), get(rowBytes))),
        ...advance(rotation, 2 * ELEMENT_BYTES),
      ]),
      ...upper.flatMap((a, j) => store(get(at), get(a), STEP_OFFSETS[j])),
      ...set(row, intAdd(get(row), intConstant(STEP_BYTES))),
    ]),
  );
}

/**
 * `(source, sourceEnd, row, rowsEnd, rowBytes, pivotBytes, inverse)`: `f = row[pivot] · inverse; row -= f · source; row[pivot] = f`
 * for every row. `pivotBytes` counts from the start of the row that is given.
 */
function eliminateRows(): FunctionDescription {
  const variables = new Variables();
  const [source, sourceEnd, row, rowsEnd, rowBytes, pivotBytes] = int(variables, 6) as [
    Local,
    Local,
    Local,
    Local,
    Local,
    Local,
  ];
  const inverse = variables.parameter(TYPE.f64);
  const [at, sourceAt, pivot] = variables.locals(3, TYPE.i32) as [Local, Local, Local];
  const f = variables.local(TYPE.f64);
  const factor = variables.local(TYPE.v128);
  return variables.describe(
    repeatUntil(row, rowsEnd, [
      ...set(pivot, intAdd(get(row), get(pivotBytes))),
      ...set(f, numberMul(get(inverse), loadNumber(get(pivot)))),
      ...set(factor, splat(get(f))),
      ...set(at, get(row)),
      ...set(sourceAt, get(source)),
      ...repeatUntil(sourceAt, sourceEnd, [
        ...STEP_OFFSETS.flatMap((offset) =>
          store(get(at), sub(load(get(at), offset), mul(get(factor), load(get(sourceAt), offset))), offset),
        ),
        ...advance(at, STEP_BYTES),
        ...advance(sourceAt, STEP_BYTES),
      ]),
      ...storeNumber(get(pivot), get(f)),
      ...set(row, intAdd(get(row), get(rowBytes))),
    ]),
  );
}

type Kernel = (...parameters: number[]) => number;
type KernelName =
  | "dotTile"
  | "combineTile"
  | "reflectRows"
  | "reflectColumns"
  | "rotateRows"
  | "eliminateRows"
  | "expandHalves"
  | "roundToHalves";
const memory = createMemory(PAGE_BYTES);

/** Addresses are in bytes: 8 times the index in the workspace. */
export const kernels = instantiate(
  {
    dotTile: dotTile(),
    combineTile: combineTile(),
    reflectRows: reflectRows(),
    reflectColumns: reflectColumns(),
    rotateRows: rotateRows(),
    eliminateRows: eliminateRows(),
    expandHalves: expandHalves(),
    roundToHalves: roundToHalves(),
  },
  memory,
) as Record<KernelName, Kernel>;

let values = new Float64Array(memory.buffer);
let halves = new Uint16Array(memory.buffer);

/** The workspace, with room for this many float64. It holds whatever was left in it. */
export function workspace(elements: number): Float64Array {
  const missingBytes = elements * ELEMENT_BYTES - memory.buffer.byteLength;
  if (missingBytes > 0) {
    memory.grow(Math.ceil(missingBytes / PAGE_BYTES));
    values = new Float64Array(memory.buffer);
    halves = new Uint16Array(memory.buffer);
  }
  return values;
}

/** Address of an element of the workspace, in bytes. */
export function address(index: number): number {
  return index * ELEMENT_BYTES;
}

const HALF_BYTES = 2;
/** `expandHalves` and `roundToHalves` take four numbers at a time. */
const HALVES_STEP = 4;

/**
 * Copies elements `[begin, begin + count)` into the workspace at `at`, as float64. Up to three more elements behind them are
 * overwritten.
 *
 * @param scratch - index of `count / 4` free elements in the workspace, and one more
 */
export function loadNumbers(x: InputValues, begin: number, count: number, at: number, scratch: number): void {
  if (x instanceof Float32Array || x instanceof Float64Array) {
    values.set(x.subarray(begin, begin + count), at);
    return;
  }
  halves.set(x.codes.subarray(begin, begin + count), address(scratch) / HALF_BYTES);
  const end = address(scratch) + roundUp(count, HALVES_STEP) * HALF_BYTES;
  kernels.expandHalves(address(scratch), end, address(at));
}

/** Rounds `count` elements of the workspace at `at` to half precision. Parameters as in `loadNumbers`. */
export function storeHalves(
  target: Uint16Array,
  begin: number,
  count: number,
  at: number,
  scratch: number,
): void {
  kernels.roundToHalves(address(at), address(at + roundUp(count, HALVES_STEP)), address(scratch));
  const from = address(scratch) / HALF_BYTES;
  target.set(halves.subarray(from, from + count), begin);
}
