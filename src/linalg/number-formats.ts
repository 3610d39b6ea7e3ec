/**
 * The formats that adapters are stored in to and from float32, four numbers at a time.
 *
 * In TypeScript the conversion of the factors would take longer than half of their decomposition.
 *
 * @see Giesen, half_to_float and float_to_half_fast3_rtne (public domain), for the branch-free forms
 */
import {
  and,
  type Code,
  choose,
  equal,
  get,
  greater,
  intVector,
  intVectorAdd,
  intVectorSub,
  type Local,
  load,
  loadShorts,
  narrow,
  or,
  set,
  shiftLeft,
  shiftRight,
  singleAdd,
  singleSub,
  store,
  storeHalf,
  TYPE,
  type Variables,
} from "./wasm-code.js";

export type NumberFormat = "F16" | "BF16" | "F32";

export const FORMAT_BYTES: Readonly<Record<NumberFormat, number>> = { F16: 2, BF16: 2, F32: 4 };

/** Code that leaves the four numbers at an address as float32. */
type Decoder = (address: Code) => Code;
/** Code that stores four float32, rounded to the nearest number of the format and on a tie to the even one. */
type Encoder = (address: Code, value: Code) => Code;

/** Each takes the variables that it needs. */
export const DECODERS: Readonly<Record<NumberFormat, (variables: Variables) => Decoder>> = {
  F16: decodeHalves,
  BF16: () => (address) => shiftLeft(loadShorts(address), 16),
  F32: () => (address) => load(address),
};

export const ENCODERS: Readonly<Record<NumberFormat, (variables: Variables) => Encoder>> = {
  F16: encodeHalves,
  BF16: encodeBfloat16,
  F32: () => store,
};

/** float32 has 13 more bits of mantissa than half precision, and its exponent counts from 127 instead of 15. */
const MANTISSA_BITS = 23;
const EXTRA_BITS = 13;
const BIAS = 112;
const ONE_EXPONENT = 1 << MANTISSA_BITS;
const INFINITY_SINGLE = 255 << MANTISSA_BITS;

function decodeHalves(variables: Variables): Decoder {
  const [half, bits, exponent, isSmall, isNotFinite] = variables.locals(5, TYPE.v128);
  const HALF_EXPONENT = 0x7c00 << EXTRA_BITS;
  const magnitude = intVectorAdd(
    intVectorAdd(get(bits), intVector(BIAS << MANTISSA_BITS)),
    intVectorAdd(
      // The exponent of infinity and NaN is the largest one here, too.
      and(get(isNotFinite), intVector(BIAS << MANTISSA_BITS)),
      and(get(isSmall), intVector(ONE_EXPONENT)),
    ),
  );
  return (address) => [
    ...set(half, loadShorts(address)),
    ...set(bits, shiftLeft(and(get(half), intVector(0x7fff)), EXTRA_BITS)),
    ...set(exponent, and(get(bits), intVector(HALF_EXPONENT))),
    ...set(isNotFinite, equal(get(exponent), intVector(HALF_EXPONENT))),
    ...set(isSmall, equal(get(exponent), intVector(0))),
    // Subnormal: the bits stand for a multiple of 2^-24. With one exponent more, the implied leading 1 is subtracted again.
    ...or(
      singleSub(magnitude, and(get(isSmall), intVector((BIAS + 1) << MANTISSA_BITS))),
      shiftLeft(and(get(half), intVector(0x8000)), 16),
    ),
  ];
}

function encodeHalves(variables: Variables): Encoder {
  const [single, magnitude, result] = variables.locals(3, TYPE.v128);
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
  const sign = shiftRight(and(get(single), intVector(-0x80000000)), 16);
  return (address, value) => [
    ...set(single, value),
    ...set(magnitude, and(get(single), intVector(0x7fffffff))),
    ...set(
      result,
      choose(
        greater(intVector(SMALLEST_NORMAL), get(magnitude)),
        subnormal,
        choose(
          greater(intVector(TOO_LARGE), get(magnitude)),
          roundedShift(magnitude, EXTRA_BITS, -(BIAS << MANTISSA_BITS)),
          notFinite,
        ),
      ),
    ),
    ...set(result, or(get(result), sign)),
    ...storeHalf(address, narrow(get(result), get(result))),
  ];
}

/** The first half of a float32. */
function encodeBfloat16(variables: Variables): Encoder {
  const [single, result] = variables.locals(2, TYPE.v128);
  const isNan = greater(and(get(single), intVector(0x7fffffff)), intVector(INFINITY_SINGLE));
  return (address, value) => [
    ...set(single, value),
    ...set(result, choose(isNan, intVector(0x7fc0), roundedShift(single, 16, 0))),
    ...storeHalf(address, narrow(get(result), get(result))),
  ];
}

/**
 * Integers plus `offset` without their last bits. To the nearest; a tie goes to the even one, which half a unit less one bit, plus
 * the lowest bit that stays, decides.
 */
function roundedShift(value: Local, bits: number, offset: number): Code {
  const isOdd = and(shiftRight(get(value), bits), intVector(1));
  const rounding = intVector((1 << (bits - 1)) - 1 + offset);
  return shiftRight(intVectorAdd(intVectorAdd(get(value), rounding), isOdd), bits);
}
