/**
 * Eigenvalues and eigenvectors of a symmetric tridiagonal matrix: one number at a time, for each needs the one before.
 *
 * In TypeScript they were as fast once they were compiled. Until then, which on every thread was a quarter of a second, the eigenvalues
 * of one matrix took 25 ms in place of 0.3.
 */
import { ELEMENT_BYTES } from "./layout.js";
import {
  advance,
  call,
  doIf,
  type FunctionDescription,
  get,
  intAdd,
  intConstant,
  intEquals,
  intLess,
  intSub,
  type Local,
  leave,
  loadNumber,
  not,
  numberAbs,
  numberAdd,
  numberAtLeast,
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
  select,
  set,
  storeNumber,
  TYPE,
  Variables,
} from "./wasm-code.js";

const ZERO = numberConstant(0);
const ONE = numberConstant(1);

/**
 * `(first, last, toSquares, shift)`: one QL step, without square roots, on the diagonal elements from `first` to `last`. The squares of the
 * elements beside the diagonal are `toSquares` bytes behind them; the last of them belongs to an element that is negligible.
 *
 * @see Parlett, The Symmetric Eigenvalue Problem, 8.15; LAPACK's dsterf
 */
export function qlStep(): FunctionDescription {
  const variables = new Variables();
  const [first, last, toSquares] = variables.parameters(3, TYPE.i32);
  const shift = variables.parameter(TYPE.f64);
  const [at, squareAt] = variables.locals(2, TYPE.i32);
  const [c, s, gamma, p, square, r, inverse, overP, oldC, oldGamma, alpha] = variables.locals(11, TYPE.f64);
  return variables.describe([
    ...set(c, ONE),
    ...set(s, ZERO),
    ...set(gamma, numberSub(loadNumber(get(last)), get(shift))),
    ...set(p, numberMul(get(gamma), get(gamma))),
    ...set(at, get(last)),
    ...advance(at, -ELEMENT_BYTES),
    ...repeatDownTo(at, first, [
      ...set(squareAt, intAdd(get(at), get(toSquares))),
      ...set(square, loadNumber(get(squareAt))),
      ...set(r, numberAdd(get(p), get(square))),
      ...storeNumber(get(squareAt), numberMul(get(s), get(r)), ELEMENT_BYTES),
      ...set(oldC, get(c)),
      // Both divisions wait for p alone: they run side by side.
      ...set(inverse, numberDiv(ONE, get(r))),
      ...set(overP, numberDiv(get(r), get(p))),
      ...set(c, numberMul(get(p), get(inverse))),
      ...set(s, numberMul(get(square), get(inverse))),
      ...set(oldGamma, get(gamma)),
      ...set(alpha, loadNumber(get(at))),
      ...set(
        gamma,
        numberSub(numberMul(get(c), numberSub(get(alpha), get(shift))), numberMul(get(s), get(oldGamma))),
      ),
      ...storeNumber(get(at), numberAdd(get(oldGamma), numberSub(get(alpha), get(gamma))), ELEMENT_BYTES),
      // gamma² / c, or what it tends to
      ...set(
        p,
        select(
          numberDiffers(get(c), ZERO),
          numberMul(numberMul(get(gamma), get(gamma)), get(overP)),
          numberMul(get(oldC), get(square)),
        ),
      ),
      ...advance(at, -ELEMENT_BYTES),
    ]),
    ...storeNumber(intAdd(get(first), get(toSquares)), numberMul(get(s), get(p))),
    ...storeNumber(get(first), numberAdd(get(shift), get(gamma))),
  ]);
}

/** `(at, limit)`: the address of the first number from `at` on that is not above `limit`; there must be one. */
export function findAtMost(): FunctionDescription {
  const variables = new Variables();
  const at = variables.parameter(TYPE.i32);
  const limit = variables.parameter(TYPE.f64);
  // A comparison is 1 or 0: the loop goes on while `goesOn` is at least 1.
  const [goesOn, one] = variables.locals(2, TYPE.i32);
  return variables.describe(
    [
      ...advance(at, -ELEMENT_BYTES),
      ...advance(one, 1),
      ...repeatDownTo(goesOn, one, [
        ...advance(at, ELEMENT_BYTES),
        ...set(goesOn, numberLess(get(limit), loadNumber(get(at)))),
      ]),
      ...get(at),
    ],
    TYPE.i32,
  );
}

/**
 * `(first, end, toSquares, negligible, steps)`: QL steps until every square is at most `negligible`; the diagonal is then the eigenvalues.
 *
 * @returns 1, or 0 where `steps` of them are not enough
 */
export function eigenvalues(): FunctionDescription {
  const variables = new Variables();
  const [first, end, toSquares] = variables.parameters(3, TYPE.i32);
  const negligible = variables.parameter(TYPE.f64);
  const steps = variables.parameter(TYPE.i32);
  const last = variables.local(TYPE.i32);
  const [root, half, sum] = variables.locals(3, TYPE.f64);
  const squareAt = intAdd(get(first), get(toSquares));
  // The eigenvalue of the first 2 x 2 block that is nearer to its first element.
  const setHalf = [
    ...set(root, numberRoot(loadNumber(squareAt))),
    ...set(half, numberSub(loadNumber(get(first), ELEMENT_BYTES), loadNumber(get(first)))),
    ...set(half, numberDiv(get(half), numberAdd(get(root), get(root)))),
    ...set(sum, numberRoot(numberAdd(numberMul(get(half), get(half)), ONE))),
    ...set(sum, numberAdd(get(half), select(numberLess(get(half), ZERO), numberNegate(get(sum)), get(sum)))),
  ];
  const shift = numberSub(loadNumber(get(first)), numberDiv(get(root), get(sum)));
  return variables.describe(
    [
      ...repeatUntil(first, end, [
        // The block that begins at `first` and is not decoupled yet.
        ...set(last, intSub(call("findAtMost", squareAt, get(negligible)), get(toSquares))),
        ...doIf(intEquals(get(first), get(last)), advance(first, ELEMENT_BYTES), [
          ...doIf(not(get(steps)), leave(intConstant(0))),
          ...advance(steps, -1),
          ...setHalf,
          ...call("qlStep", get(first), get(last), get(toSquares), shift),
        ]),
      ]),
      ...intConstant(1),
    ],
    TYPE.i32,
  );
}

/** Bytes for a row of the system that `eliminateShifted` leaves. */
export const SYSTEM_ROW_BYTES = 5 * ELEMENT_BYTES;
/** In a row: the inverse of U's diagonal, the two elements right of it, the factor, and whether it was swapped with the next row. */
const [INVERSE, ABOVE, FAR_ABOVE, FACTOR, SWAPPED] = [0, 8, 16, 24, 32] as const;

/**
 * `(d, dEnd, toBeside, system, lambda, smallest)`: `T - lambda I` as `P L U`, by elimination with partial pivoting. The elements beside the
 * diagonal are `toBeside` bytes behind it, and a zero behind the last one. No pivot becomes smaller than `smallest`: an exact
 * eigenvalue makes one zero, and any small number in its place gives the vector all the same.
 */
export function eliminateShifted(): FunctionDescription {
  const variables = new Variables();
  const [d, dEnd, toBeside, system] = variables.parameters(4, TYPE.i32);
  const [lambda, smallest] = variables.parameters(2, TYPE.f64);
  const isSwapped = variables.local(TYPE.i32);
  const [pivot, above, below, nextPivot, nextAbove, used, inverse, factor] = variables.locals(8, TYPE.f64);
  const beside = (offset: number) => loadNumber(intAdd(get(d), get(toBeside)), offset);
  const swap = (whereSwapped: Local, elsewhere: Local) =>
    select(get(isSwapped), get(whereSwapped), get(elsewhere));
  return variables.describe([
    ...set(pivot, numberSub(loadNumber(get(d)), get(lambda))),
    ...set(above, beside(0)),
    // Behind the last row there is one more, which is zero beside it: the loop has no special case for the last one.
    ...repeatUntil(d, dEnd, [
      ...set(below, beside(0)),
      ...set(nextPivot, numberSub(loadNumber(get(d), ELEMENT_BYTES), get(lambda))),
      ...set(nextAbove, beside(ELEMENT_BYTES)),
      ...set(isSwapped, numberLess(numberAbs(get(pivot)), numberAbs(get(below)))),
      ...set(used, swap(below, pivot)),
      ...set(used, select(numberLess(numberAbs(get(used)), get(smallest)), get(smallest), get(used))),
      ...set(inverse, numberDiv(ONE, get(used))),
      ...set(factor, numberMul(swap(pivot, below), get(inverse))),
      ...storeNumber(get(system), get(inverse), INVERSE),
      ...storeNumber(get(system), swap(nextPivot, above), ABOVE),
      ...storeNumber(get(system), select(get(isSwapped), get(nextAbove), ZERO), FAR_ABOVE),
      ...storeNumber(get(system), get(factor), FACTOR),
      ...storeNumber(get(system), select(get(isSwapped), ONE, ZERO), SWAPPED),
      ...set(pivot, numberSub(swap(above, nextPivot), numberMul(get(factor), swap(nextPivot, above)))),
      ...set(
        above,
        select(get(isSwapped), numberNegate(numberMul(get(factor), get(nextAbove))), get(nextAbove)),
      ),
      ...advance(d, ELEMENT_BYTES),
      ...advance(system, SYSTEM_ROW_BYTES),
    ]),
  ]);
}

/** `(x, xLast, system)`: replaces the right side `x` by the solution of what `eliminateShifted` left. */
export function solveShifted(): FunctionDescription {
  const variables = new Variables();
  const [x, xLast, system] = variables.parameters(3, TYPE.i32);
  const at = variables.local(TYPE.i32);
  const [own, next, one, two, value] = variables.locals(5, TYPE.f64);
  const swappedOwn = variables.local(TYPE.f64);
  const isSwapped = numberDiffers(loadNumber(get(system), SWAPPED), ZERO);
  return variables.describe([
    ...set(at, get(x)),
    ...set(own, loadNumber(get(x))),
    // The last row has the factor 0, and whatever is behind the vector is left as it is.
    ...repeatUntil(at, xLast, [
      ...set(next, loadNumber(get(at), ELEMENT_BYTES)),
      ...set(swappedOwn, select(isSwapped, get(next), get(own))),
      ...set(
        own,
        numberSub(
          select(isSwapped, get(own), get(next)),
          numberMul(loadNumber(get(system), FACTOR), get(swappedOwn)),
        ),
      ),
      ...storeNumber(get(at), get(swappedOwn)),
      ...advance(at, ELEMENT_BYTES),
      ...advance(system, SYSTEM_ROW_BYTES),
    ]),
    ...storeNumber(get(xLast), get(own)),
    ...repeatDownTo(at, x, [
      ...set(
        value,
        numberMul(
          numberSub(
            numberSub(loadNumber(get(at)), numberMul(loadNumber(get(system), ABOVE), get(one))),
            numberMul(loadNumber(get(system), FAR_ABOVE), get(two)),
          ),
          loadNumber(get(system), INVERSE),
        ),
      ),
      ...set(two, get(one)),
      ...set(one, get(value)),
      ...storeNumber(get(at), get(value)),
      ...advance(at, -ELEMENT_BYTES),
      ...advance(system, -SYSTEM_ROW_BYTES),
    ]),
  ]);
}

/** `(first, x, xEnd)`: takes from `x` what it has of the vectors before it, from `first` on, which have the length 1. */
export function removeParts(): FunctionDescription {
  const variables = new Variables();
  const [unit, x, xEnd] = variables.parameters(3, TYPE.i32);
  return variables.describe(
    doIf(
      intLess(get(unit), get(x)),
      repeatUntil(unit, x, [
        ...call(
          "addVectors",
          ...[get(x), get(xEnd), get(x), get(unit), get(unit)],
          ...[ONE, numberNegate(call("dot", get(x), get(xEnd), get(unit))), ZERO],
        ),
        ...set(unit, intAdd(get(unit), intSub(get(xEnd), get(x)))),
      ]),
    ),
  );
}

/** `(x, xEnd)`: to the length 1. @returns 0 where the length is zero or not finite */
export function normalise(): FunctionDescription {
  const variables = new Variables();
  const [x, xEnd] = variables.parameters(2, TYPE.i32);
  const length = variables.local(TYPE.f64);
  return variables.describe(
    [
      ...set(length, numberRoot(call("dot", get(x), get(xEnd), get(x)))),
      ...doIf(not(numberLess(ZERO, get(length))), leave(intConstant(0))),
      ...doIf(not(numberLess(get(length), numberConstant(Number.POSITIVE_INFINITY))), leave(intConstant(0))),
      ...call(
        "addVectors",
        ...[get(x), get(xEnd), get(x), get(x), get(x)],
        ...[numberDiv(ONE, get(length)), ZERO, ZERO],
      ),
      ...intConstant(1),
    ],
    TYPE.i32,
  );
}

/**
 * `(first, x, xEnd, xLast, system, solutions, extra, wanted)`: the vector of an eigenvalue by inverse iteration, from the one that `x` holds, and
 * orthogonal to those before it, from `first` on. `xLast` is its last element. A solution with a right side of length 1 is enough if
 * it is at least `wanted` long; `extra` more follow.
 *
 * @returns 1, or 0 where `solutions` of them are not enough
 */
export function inverseIteration(): FunctionDescription {
  const variables = new Variables();
  const [first, x, xEnd, xLast, system, solutions, extra] = variables.parameters(7, TYPE.i32);
  const wanted = variables.parameter(TYPE.f64);
  const [isFound, zero] = variables.locals(2, TYPE.i32);
  const removed = call("removeParts", get(first), get(x), get(xEnd));
  const normalised = doIf(not(call("normalise", get(x), get(xEnd))), leave(intConstant(0)));
  const length = numberRoot(call("dot", get(x), get(xEnd), get(x)));
  return variables.describe(
    [
      ...repeatDownTo(extra, zero, [
        ...doIf(not(get(solutions)), leave(intConstant(0))),
        ...advance(solutions, -1),
        ...removed,
        ...normalised,
        ...call("solveShifted", get(x), get(xLast), get(system)),
        ...removed,
        ...doIf(numberAtLeast(length, get(wanted)), set(isFound, intConstant(1))),
        ...set(extra, intSub(get(extra), get(isFound))),
      ]),
      ...normalised,
      // Where most of a solution was removed, what is left is not orthogonal to all digits.
      ...removed,
      ...call("normalise", get(x), get(xEnd)),
    ],
    TYPE.i32,
  );
}
