/** Triangular matrices: elimination row by row. */
import { ELEMENT_BYTES } from "./layout.js";
import { STEP_BYTES, STEP_OFFSETS } from "./vector-kernels.js";
import {
  advance,
  call,
  doIf,
  type FunctionDescription,
  get,
  intAdd,
  intConstant,
  intLess,
  intMul,
  intSub,
  leave,
  load,
  loadNumber,
  mul,
  not,
  numberConstant,
  numberDiv,
  numberLess,
  numberMul,
  numberRoot,
  repeatDownTo,
  repeatUntil,
  roundDown,
  set,
  shiftRightInt,
  splat,
  store,
  storeNumber,
  sub,
  TYPE,
  Variables,
} from "./wasm-code.js";

/**
 * `(source, sourceEnd, row, rowsEnd, rowBytes, pivotBytes, inverse)`: `f = row[pivot] · inverse; row -= f · source; row[pivot] = f`
 * for every row. `pivotBytes` counts from the start of the row that is given.
 */
export function eliminateRows(): FunctionDescription {
  const variables = new Variables();
  const [source, sourceEnd, row, rowsEnd, rowBytes, pivotBytes] = variables.parameters(6, TYPE.i32);
  const inverse = variables.parameter(TYPE.f64);
  const [at, sourceAt, pivot] = variables.locals(3, TYPE.i32);
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

/**
 * `(source, sourceEnd, row, rowBytes, inverse)`: a step of a symmetric elimination, in the upper triangle. With `source` the elements
 * right of the pivot and `row` the diagonal element below it: `row_i -= inverse · source_i · source` for all rows from the diagonal on, and
 * what is left of it in the same vectors.
 */
export function eliminateUpper(): FunctionDescription {
  const variables = new Variables();
  const [source, sourceEnd, row, rowBytes] = variables.parameters(4, TYPE.i32);
  const inverse = variables.parameter(TYPE.f64);
  const [at, sourceAt] = variables.locals(2, TYPE.i32);
  const factor = variables.local(TYPE.v128);
  return variables.describe(
    repeatUntil(source, sourceEnd, [
      ...set(factor, splat(numberMul(get(inverse), loadNumber(get(source))))),
      ...set(sourceAt, roundDown(get(source), STEP_BYTES)),
      ...set(at, roundDown(get(row), STEP_BYTES)),
      ...repeatUntil(sourceAt, sourceEnd, [
        ...STEP_OFFSETS.flatMap((offset) =>
          store(get(at), sub(load(get(at), offset), mul(get(factor), load(get(sourceAt), offset))), offset),
        ),
        ...advance(at, STEP_BYTES),
        ...advance(sourceAt, STEP_BYTES),
      ]),
      ...advance(source, ELEMENT_BYTES),
      ...set(row, intAdd(get(row), intAdd(get(rowBytes), intConstant(ELEMENT_BYTES)))),
    ]),
  );
}

/**
 * `(source, sourceEnd, rowBytes, begin, beginStep, end, endStep, target)`: `target_ki = source_ik` for the elements between `begin` and `end`, which are
 * counted in bytes and move by their steps with every row: a triangle of a matrix becomes the other one.
 */
export function transposeTriangle(): FunctionDescription {
  const variables = new Variables();
  const [source, sourceEnd, rowBytes, begin, beginStep, end, endStep, target] = variables.parameters(
    8,
    TYPE.i32,
  );
  const [from, fromEnd, to] = variables.locals(3, TYPE.i32);
  const rowOfBegin = intMul(get(rowBytes), shiftRightInt(get(begin), 3));
  return variables.describe(
    repeatUntil(source, sourceEnd, [
      ...set(from, intAdd(get(source), get(begin))),
      ...set(fromEnd, intAdd(get(source), get(end))),
      ...set(to, intAdd(get(target), rowOfBegin)),
      ...repeatUntil(from, fromEnd, [
        ...storeNumber(get(to), loadNumber(get(from))),
        ...advance(from, ELEMENT_BYTES),
        ...set(to, intAdd(get(to), get(rowBytes))),
      ]),
      ...set(begin, intAdd(get(begin), get(beginStep))),
      ...set(end, intAdd(get(end), get(endStep))),
      ...advance(target, ELEMENT_BYTES),
      ...set(source, intAdd(get(source), get(rowBytes))),
    ]),
  );
}

/**
 * `(a, aEnd, lengthBytes, rowBytes)`: the transposed Cholesky factor in the place of the upper triangle of a symmetric matrix. What is below it is not
 * read, and lost.
 *
 * @returns 1, or 0 where the matrix is not positive definite to working precision
 */
export function cholesky(): FunctionDescription {
  const variables = new Variables();
  const [a, aEnd, length, rowBytes] = variables.parameters(4, TYPE.i32);
  const [offset, begin, next] = variables.locals(3, TYPE.i32);
  const pivot = variables.local(TYPE.f64);
  const nextRow = intAdd(get(a), get(rowBytes));
  return variables.describe(
    [
      ...repeatUntil(a, aEnd, [
        ...set(pivot, loadNumber(intAdd(get(a), get(offset)))),
        ...doIf(not(numberLess(numberConstant(0), get(pivot))), leave(intConstant(0))),
        ...set(next, intAdd(get(offset), intConstant(ELEMENT_BYTES))),
        ...doIf(
          intLess(get(next), get(length)),
          call(
            "eliminateUpper",
            ...[intAdd(get(a), get(next)), intAdd(get(a), get(length))],
            ...[intAdd(nextRow, get(next)), get(rowBytes)],
            numberDiv(numberConstant(1), get(pivot)),
          ),
        ),
        ...set(begin, intAdd(get(a), roundDown(get(offset), STEP_BYTES))),
        ...call(
          "addVectors",
          ...[get(begin), nextRow, get(begin), get(begin), get(begin)],
          ...[numberDiv(numberConstant(1), numberRoot(get(pivot))), numberConstant(0), numberConstant(0)],
        ),
        ...set(offset, get(next)),
        ...set(a, nextRow),
      ]),
      ...intConstant(1),
    ],
    TYPE.i32,
  );
}

/**
 * `(l, lLast, lastBytes, rowBytes, xEnd)`: solves `X L = I` for a lower triangular L. X is zero before; the diagonal of L is lost.
 * `lLast` and `lastBytes` are the last row and its diagonal element.
 *
 * All rows of X are solved for at once, the last column first: x_j is final when the later ones are eliminated.
 */
export function invertLower(): FunctionDescription {
  const variables = new Variables();
  const [l, lLast, offset, rowBytes, xEnd] = variables.parameters(5, TYPE.i32);
  const row = variables.local(TYPE.i32);
  const inverse = variables.local(TYPE.f64);
  return variables.describe([
    // Row j of X, with j from the end.
    ...set(row, intSub(get(xEnd), get(rowBytes))),
    ...repeatDownTo(lLast, l, [
      ...set(inverse, numberDiv(numberConstant(1), loadNumber(intAdd(get(lLast), get(offset))))),
      ...storeNumber(intAdd(get(lLast), get(offset)), numberConstant(0)),
      ...storeNumber(intAdd(get(row), get(offset)), numberConstant(1)),
      ...call(
        "eliminateRows",
        ...[get(lLast), intAdd(get(lLast), intAdd(get(offset), intConstant(ELEMENT_BYTES)))],
        ...[get(row), get(xEnd), get(rowBytes), get(offset), get(inverse)],
      ),
      ...set(lLast, intSub(get(lLast), get(rowBytes))),
      ...set(row, intSub(get(row), get(rowBytes))),
      ...advance(offset, -ELEMENT_BYTES),
    ]),
  ]);
}
