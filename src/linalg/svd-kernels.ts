/** What the singular value decomposition of a small matrix spends its time with. */
import { ELEMENT_BYTES } from "./layout.js";
import { STEP_BYTES, STEP_OFFSETS } from "./vector-kernels.js";
import {
  advance,
  type Code,
  type FunctionDescription,
  get,
  intAdd,
  intConstant,
  load,
  loadNumber,
  loadSplat,
  mul,
  numberMul,
  repeatUntil,
  set,
  splat,
  store,
  sub,
  TYPE,
  Variables,
  vectorAdd,
  zeroVector,
} from "./wasm-code.js";

/**
 * `(u, row, rowsEnd, rowBytes, y, yEnd, beta)`: `row_i -= beta · u_i · y` with `y = Σ u_i · row_i`: a reflection from the left.
 * `y` is scratch space as long as the part of the rows that is worked on.
 */
export function reflectColumns(): FunctionDescription {
  const variables = new Variables();
  const [u, row, rowsEnd, rowBytes, y, yEnd] = variables.parameters(6, TYPE.i32);
  const beta = variables.parameter(TYPE.f64);
  const [uAt, rowAt, at, yAt] = variables.locals(4, TYPE.i32);
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
export function rotateRows(): FunctionDescription {
  const variables = new Variables();
  const [row, rowEnd, rowBytes, rotations, rotationsEnd] = variables.parameters(5, TYPE.i32);
  const [at, rotation] = variables.locals(2, TYPE.i32);
  const upper = variables.locals(STEP_OFFSETS.length, TYPE.v128);
  const [c, s, b] = variables.locals(3, TYPE.v128);
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
