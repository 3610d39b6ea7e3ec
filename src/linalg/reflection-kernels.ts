/** Householder reflections, `I - beta v vᵀ`. */
import { accumulate, STEP_BYTES, STEP_OFFSETS } from "./vector-kernels.js";
import {
  advance,
  type FunctionDescription,
  get,
  intAdd,
  lanesSum,
  load,
  mul,
  numberMul,
  repeatUntil,
  set,
  splat,
  store,
  sub,
  TYPE,
  Variables,
  zeroVector,
} from "./wasm-code.js";

/** `(v, vEnd, row, rowsEnd, rowBytes, beta)`: `row -= beta · (row · v) · v` for every row: a reflection from the right. */
export function reflectRows(): FunctionDescription {
  const variables = new Variables();
  const [v, vEnd, row, rowsEnd, rowBytes] = variables.parameters(5, TYPE.i32);
  const beta = variables.parameter(TYPE.f64);
  const [at, vAt] = variables.locals(2, TYPE.i32);
  const sums = variables.locals(STEP_OFFSETS.length, TYPE.v128);
  const factor = variables.local(TYPE.v128);
  const [first, ...others] = sums;
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
