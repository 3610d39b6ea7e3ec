/** Householder reflections, `I - beta v vᵀ`. */
import { ELEMENT_BYTES } from "./layout.js";
import { accumulate, STEP_BYTES, STEP_OFFSETS } from "./vector-kernels.js";
import {
  advance,
  type Code,
  call,
  doIf,
  type FunctionDescription,
  get,
  intAdd,
  intConstant,
  intLess,
  intSub,
  type Local,
  lanesSum,
  load,
  loadNumber,
  loadSplat,
  mul,
  numberAbs,
  numberAdd,
  numberConstant,
  numberDiffers,
  numberDiv,
  numberLess,
  numberMul,
  numberNegate,
  numberRoot,
  numberSub,
  repeatDownTo,
  repeatUntil,
  roundDown,
  select,
  set,
  splat,
  store,
  storeNumber,
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

/**
 * `(row, rowsEnd, rowBytes, v, w, next, nextEnd, vi, wi, y)`: a step of a tridiagonalisation, for rows two by two:
 * `row_i -= v_i · w + w_i · v`, which is what the reflection before leaves to do, and `y_i = row_i · next` for the one to come. One pass
 * over the matrix does both.
 *
 * `v`, `w` and `next` begin where the rows do; `vi` and `wi` are the elements of v and w that belong to the first row.
 */
export function updateAndMultiply(): FunctionDescription {
  const variables = new Variables();
  const [row, rowsEnd, rowBytes, v, w, next, nextEnd, vi, wi, y] = variables.parameters(10, TYPE.i32);
  const [at, below, vAt, wAt, nextAt] = variables.locals(5, TYPE.i32);
  const vFactors = variables.locals(2, TYPE.v128);
  const wFactors = variables.locals(2, TYPE.v128);
  const sums = variables.locals(2, TYPE.v128);
  const [vj, wj, nextJ, element] = variables.locals(4, TYPE.v128);
  const rows = [at, below];
  return variables.describe(
    repeatUntil(row, rowsEnd, [
      ...set(at, get(row)),
      ...set(below, intAdd(get(row), get(rowBytes))),
      ...set(vAt, get(v)),
      ...set(wAt, get(w)),
      ...set(nextAt, get(next)),
      ...rows.flatMap((_, i) => [
        ...set(vFactors[i]!, loadSplat(get(vi), i * ELEMENT_BYTES)),
        ...set(wFactors[i]!, loadSplat(get(wi), i * ELEMENT_BYTES)),
        ...set(sums[i]!, zeroVector),
      ]),
      ...repeatUntil(nextAt, nextEnd, [
        ...STEP_OFFSETS.flatMap((offset) => [
          ...set(vj, load(get(vAt), offset)),
          ...set(wj, load(get(wAt), offset)),
          ...set(nextJ, load(get(nextAt), offset)),
          ...rows.flatMap((each, i) => [
            ...set(
              element,
              sub(
                sub(load(get(each), offset), mul(get(vFactors[i]!), get(wj))),
                mul(get(wFactors[i]!), get(vj)),
              ),
            ),
            ...store(get(each), get(element), offset),
            ...accumulate(sums[i]!, mul(get(element), get(nextJ))),
          ]),
        ]),
        ...[at, below, vAt, wAt, nextAt].flatMap((pointer) => advance(pointer, STEP_BYTES)),
      ]),
      ...sums.flatMap((sum, i) => storeNumber(get(y), lanesSum(sum), i * ELEMENT_BYTES)),
      ...[vi, wi, y].flatMap((pointer) => advance(pointer, 2 * ELEMENT_BYTES)),
      ...set(row, intAdd(get(row), intAdd(get(rowBytes), get(rowBytes)))),
    ]),
  );
}

/**
 * `(a, aEnd, lengthBytes, rowBytes, w, y, diagonal, beside, betas)`: turns a symmetric matrix into a tridiagonal one by Householder reflections. Behind
 * it row j holds the vector of reflection j, which begins right of the diagonal.
 *
 * `w` and `y` are rows for scratch, the first one of zeros; behind the matrix there is a row of zeros more.
 *
 * @see Golub & Van Loan, Matrix Computations, 4th ed., 8.3.1
 */
export function tridiagonalise(): FunctionDescription {
  const variables = new Variables();
  const [a, aEnd, length, rowBytes, w, y, diagonal, beside, betas] = variables.parameters(9, TYPE.i32);
  const [row, offset, next, begin, before] = variables.locals(5, TYPE.i32);
  const [alpha, norm, reflected, beta, half] = variables.locals(5, TYPE.f64);
  const ZERO = numberConstant(0);
  const at = (start: Local, position: Local) => intAdd(get(start), get(position));
  const rowEnd = intAdd(get(row), get(rowBytes));
  const wEnd = intAdd(get(w), get(rowBytes));
  return variables.describe([
    ...set(row, get(a)),
    ...set(before, get(w)), // With w zero it does not matter what the vector before is.
    ...repeatUntil(offset, length, [
      // The row must be complete before its reflection can be found.
      ...set(begin, roundDown(get(offset), STEP_BYTES)),
      ...call(
        "addVectors",
        ...[at(row, begin), rowEnd, at(row, begin), at(w, begin), at(before, begin)],
        ...[
          numberConstant(1),
          numberNegate(loadNumber(at(before, offset))),
          numberNegate(loadNumber(at(w, offset))),
        ],
      ),
      ...storeNumber(at(diagonal, offset), loadNumber(at(row, offset))),
      ...set(next, intAdd(get(offset), intConstant(ELEMENT_BYTES))),
      ...doIf(intLess(get(next), get(length)), [
        ...clear(row, begin, next, variables),
        ...set(begin, roundDown(get(next), STEP_BYTES)),
        ...set(norm, numberRoot(call("dot", at(row, begin), rowEnd, at(row, begin)))),
        ...set(alpha, loadNumber(at(row, next))),
        // Of the two reflections the one that subtracts nothing from nearly the same.
        ...set(reflected, select(numberLess(ZERO, get(alpha)), numberNegate(get(norm)), get(norm))),
        ...storeNumber(at(row, next), numberSub(get(alpha), get(reflected))),
        ...storeNumber(at(beside, offset), get(reflected)),
        ...set(beta, numberMul(get(norm), numberAdd(get(norm), numberAbs(get(alpha))))),
        ...set(beta, select(numberDiffers(get(norm), ZERO), numberDiv(numberConstant(1), get(beta)), ZERO)),
        ...storeNumber(at(betas, offset), get(beta)),
        ...call(
          "updateAndMultiply",
          ...[intAdd(rowEnd, get(begin)), at(aEnd, begin), get(rowBytes)],
          ...[at(before, begin), at(w, begin), at(row, begin), rowEnd],
          ...[at(before, next), at(w, next), at(y, next)],
        ),
        // With p = beta A v: w = p - (beta / 2) (vᵀ p) v, so that H A H = A - v wᵀ - w vᵀ.
        ...set(half, call("dot", at(row, begin), rowEnd, at(y, begin))),
        ...set(half, numberMul(numberMul(get(beta), get(beta)), numberMul(get(half), numberConstant(0.5)))),
        ...call(
          "addVectors",
          ...[at(w, begin), wEnd, at(y, begin), at(row, begin), at(row, begin)],
          ...[get(beta), numberNegate(get(half)), ZERO],
        ),
        // Elements of y that belong to steps before.
        ...set(begin, roundDown(get(offset), STEP_BYTES)),
        ...clear(w, begin, next, variables),
        ...set(before, get(row)),
      ]),
      ...set(row, rowEnd),
      ...set(offset, get(next)),
    ]),
  ]);
}

/** Zeros from `begin` to `end`, which are counted from `start` and are not equal. */
function clear(start: Local, begin: Local, end: Local, variables: Variables): Code {
  const [at, last] = variables.locals(2, TYPE.i32);
  return [
    ...set(at, intAdd(get(start), get(begin))),
    ...set(last, intAdd(get(start), get(end))),
    ...repeatUntil(at, last, [...storeNumber(get(at), numberConstant(0)), ...advance(at, ELEMENT_BYTES)]),
  ];
}

/** `(v, vLast, rowBytes, betas, x, xEnd)`: applies the reflections that `tridiagonalise` left to the rows of `x`, from `vLast` back to `v`. */
export function reflectBack(): FunctionDescription {
  const variables = new Variables();
  const [v, vLast, rowBytes, betas, x, xEnd] = variables.parameters(6, TYPE.i32);
  const [offset, begin] = variables.locals(2, TYPE.i32);
  return variables.describe([
    // From the row of the last reflection: its number, in bytes of an element.
    ...set(begin, get(v)),
    ...doIf(intLess(get(v), get(vLast)), [
      ...repeatUntil(begin, vLast, [
        ...set(begin, intAdd(get(begin), get(rowBytes))),
        ...advance(offset, ELEMENT_BYTES),
      ]),
    ]),
    ...repeatDownTo(vLast, v, [
      ...set(begin, roundDown(intAdd(get(offset), intConstant(ELEMENT_BYTES)), STEP_BYTES)),
      ...call(
        "reflectRows",
        ...[intAdd(get(vLast), get(begin)), intAdd(get(vLast), get(rowBytes))],
        ...[intAdd(get(x), get(begin)), intAdd(get(xEnd), get(begin)), get(rowBytes)],
        loadNumber(intAdd(get(betas), get(offset))),
      ),
      ...advance(offset, -ELEMENT_BYTES),
      ...set(vLast, intSub(get(vLast), get(rowBytes))),
    ]),
  ]);
}
