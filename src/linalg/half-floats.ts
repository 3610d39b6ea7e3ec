/**
 * IEEE half precision to and from float64, four numbers at a time.
 *
 * Most adapters are float16, and in TypeScript the conversion of their factors would take a fifth of a resize.
 *
 * @see Giesen, half_to_float and float_to_half_fast3_rtne (public domain), for the branch-free forms
 */
import {
  advance,
  and,
  choose,
  demote,
  equal,
  type FunctionDescription,
  firstHalves,
  get,
  greater,
  intVector,
  intVectorAdd,
  intVectorSub,
  type Local,
  lastHalf,
  load,
  loadShorts,
  narrow,
  or,
  promote,
  repeatUntil,
  set,
  shiftLeft,
  shiftRight,
  singleAdd,
  singleSub,
  store,
  storeHalf,
  TYPE,
  Variables,
} from "./wasm-code.js";

/** float32 has 13 more bits of mantissa, and its exponent counts from 127 instead of 15. */
const MANTISSA_BITS = 23;
const EXTRA_BITS = 13;
const BIAS = 112;
const ONE_EXPONENT = 1 << MANTISSA_BITS;

/** `(source, sourceEnd, target)`: half precision at `source` as float64 at `target`; four at a time. */
export function expandHalves(): FunctionDescription {
  const variables = new Variables();
  const [source, end, target] = pointers(variables);
  const [half, bits, exponent] = variables.locals(3, TYPE.v128) as [Local, Local, Local];
  const HALF_EXPONENT = 0x7c00 << EXTRA_BITS;
  const rebased = intVectorAdd(get(bits), intVector(BIAS << MANTISSA_BITS));
  // Subnormal: the bits stand for a multiple of 2^-24. One exponent more, and the implied leading 1 is subtracted again.
  const subnormal = singleSub(
    intVectorAdd(rebased, intVector(ONE_EXPONENT)),
    intVector((BIAS + 1) << MANTISSA_BITS),
  );
  const notFinite = intVectorAdd(rebased, intVector(BIAS << MANTISSA_BITS));
  return variables.describe(
    repeatUntil(source, end, [
      ...set(half, loadShorts(get(source))),
      ...set(bits, shiftLeft(and(get(half), intVector(0x7fff)), EXTRA_BITS)),
      ...set(exponent, and(get(bits), intVector(HALF_EXPONENT))),
      ...set(
        bits,
        choose(
          equal(get(exponent), intVector(0)),
          subnormal,
          choose(equal(get(exponent), intVector(HALF_EXPONENT)), notFinite, rebased),
        ),
      ),
      ...set(bits, or(get(bits), shiftLeft(and(get(half), intVector(0x8000)), 16))),
      ...store(get(target), promote(get(bits))),
      ...store(get(target), promote(lastHalf(get(bits))), 16),
      ...advance(source, 8),
      ...advance(target, 32),
    ]),
  );
}

/** `(source, sourceEnd, target)`: float64 at `source`, rounded to float32 and then to half precision at `target`. */
export function roundToHalves(): FunctionDescription {
  const variables = new Variables();
  const [source, end, target] = pointers(variables);
  const [single, magnitude, result] = variables.locals(3, TYPE.v128) as [Local, Local, Local];
  const INFINITY_SINGLE = 255 << MANTISSA_BITS;
  /** 2^16: what is at least this is infinite. */
  const TOO_LARGE = (127 + 16) << MANTISSA_BITS;
  /** 2^-14: what is below is subnormal. */
  const SMALLEST_NORMAL = (127 - 14) << MANTISSA_BITS;
  /** 2^-1: adding it leaves of the mantissa what a subnormal has, rounded by the addition. */
  const SUBNORMAL_MAGIC = (127 - 1) << MANTISSA_BITS;
  const notFinite = choose(
    greater(get(magnitude), intVector(INFINITY_SINGLE)),
    intVector(0x7e00),
    intVector(0x7c00),
  );
  const subnormal = intVectorSub(
    singleAdd(get(magnitude), intVector(SUBNORMAL_MAGIC)),
    intVector(SUBNORMAL_MAGIC),
  );
  // To the nearest; a tie goes to the even one, which half a unit less one bit, plus the lowest bit, decides.
  const isOdd = and(shiftRight(get(magnitude), EXTRA_BITS), intVector(1));
  const rounding = intVector((1 << (EXTRA_BITS - 1)) - 1 - (BIAS << MANTISSA_BITS));
  const normal = shiftRight(intVectorAdd(intVectorAdd(get(magnitude), rounding), isOdd), EXTRA_BITS);
  const sign = shiftRight(and(get(single), intVector(-0x80000000)), 16);
  return variables.describe(
    repeatUntil(source, end, [
      ...set(single, firstHalves(demote(load(get(source))), demote(load(get(source), 16)))),
      ...set(magnitude, and(get(single), intVector(0x7fffffff))),
      ...set(
        result,
        choose(
          greater(intVector(SMALLEST_NORMAL), get(magnitude)),
          subnormal,
          choose(greater(intVector(TOO_LARGE), get(magnitude)), normal, notFinite),
        ),
      ),
      ...set(result, or(get(result), sign)),
      ...storeHalf(get(target), narrow(get(result), get(result))),
      ...advance(source, 32),
      ...advance(target, 8),
    ]),
  );
}

function pointers(variables: Variables): [Local, Local, Local] {
  return [TYPE.i32, TYPE.i32, TYPE.i32].map((type) => variables.parameter(type)) as [Local, Local, Local];
}
