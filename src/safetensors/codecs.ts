/**
 * Tensor bytes to and from float32.
 *
 * Files are little-endian, and so is every platform that dylora runs on: typed arrays read the bytes as they are.
 */
import { DyloraError } from "../errors.js";
import { type Dtype, elementBytes } from "./dtype.js";
import {
  BFLOAT16,
  decodeSmallFloat,
  decodingTable,
  encodeSmallFloats,
  FLOAT8_E4M3,
  FLOAT8_E4M3FNUZ,
  FLOAT8_E5M2,
  FLOAT8_E5M2FNUZ,
  FLOAT16,
  type SmallFloat,
} from "./small-floats.js";

const SMALL_FLOATS: Partial<Record<Dtype, SmallFloat>> = {
  F16: FLOAT16,
  F8_E4M3: FLOAT8_E4M3,
  F8_E5M2: FLOAT8_E5M2,
  F8_E4M3FNUZ: FLOAT8_E4M3FNUZ,
  F8_E5M2FNUZ: FLOAT8_E5M2FNUZ,
};

/** From here on a lookup table costs less than it saves. */
const TABLE_MIN_ELEMENTS = 4096;

/** The types that `encodeFromFloat32` writes. */
export const WRITABLE_DTYPES = ["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"] as const;
export type WritableDtype = (typeof WRITABLE_DTYPES)[number];

export function isWritableDtype(dtype: Dtype): dtype is WritableDtype {
  return (WRITABLE_DTYPES as readonly Dtype[]).includes(dtype);
}

/**
 * Tensor bytes as float32. Exact for every type of up to 16 bits; wider ones are rounded to the nearest float32.
 *
 * @param bytes - whole elements. For F32 the result may share its memory.
 * @throws {DyloraError} `E_INCOMPATIBLE` for complex numbers and for types smaller than a byte
 */
export function decodeToFloat32(bytes: Uint8Array, dtype: Dtype): Float32Array {
  const size = elementBytes(dtype);
  if (size === null || dtype === "C64") {
    throw new DyloraError("E_INCOMPATIBLE", `decode: ${dtype} numbers cannot be read as float32`, {
      note: "The file is valid; dylora has no use for tensors of this type.",
    });
  }
  if (bytes.length % size !== 0) {
    throw new DyloraError(
      "E_FORMAT",
      `decode: ${bytes.length} bytes are not a whole number of ${dtype} elements`,
    );
  }
  const { buffer, byteOffset } = bytes.byteOffset % size === 0 ? bytes : bytes.slice();
  const count = bytes.length / size;
  switch (dtype) {
    case "F32":
      return new Float32Array(buffer as ArrayBuffer, byteOffset, count);
    case "F64":
      return Float32Array.from(new Float64Array(buffer, byteOffset, count));
    case "BF16":
      return decodeBfloat16(new Uint16Array(buffer, byteOffset, count));
    case "F8_E8M0":
      return Float32Array.from(bytes, (code) => (code === 255 ? Number.NaN : 2 ** (code - 127)));
    case "I64":
      return Float32Array.from(new BigInt64Array(buffer, byteOffset, count), Number);
    case "U64":
      return Float32Array.from(new BigUint64Array(buffer, byteOffset, count), Number);
    case "I32":
      return Float32Array.from(new Int32Array(buffer, byteOffset, count));
    case "U32":
      return Float32Array.from(new Uint32Array(buffer, byteOffset, count));
    case "I16":
      return Float32Array.from(new Int16Array(buffer, byteOffset, count));
    case "U16":
      return Float32Array.from(new Uint16Array(buffer, byteOffset, count));
    case "I8":
      return Float32Array.from(new Int8Array(buffer, byteOffset, count));
    case "U8":
      return Float32Array.from(bytes);
    case "BOOL":
      return Float32Array.from(bytes, (byte) => (byte === 0 ? 0 : 1));
    default: {
      const codes = size === 1 ? bytes : new Uint16Array(buffer, byteOffset, count);
      return decodeSmallFloats(codes, SMALL_FLOATS[dtype]!);
    }
  }
}

/**
 * float32 values as tensor bytes, rounded to the nearest representable number and on a tie to the even one.
 *
 * Values beyond the range become infinity, in F8_E4M3 (which has none) NaN; `findNonFinite` tells afterwards.
 *
 * @throws {DyloraError} `E_INCOMPATIBLE` for a type that is not one of `WRITABLE_DTYPES`
 */
export function encodeFromFloat32(values: Float32Array, dtype: Dtype): Uint8Array {
  if (!isWritableDtype(dtype)) {
    throw new DyloraError("E_INCOMPATIBLE", `encode: float32 numbers cannot be written as ${dtype}`, {
      note: `Choose one of ${WRITABLE_DTYPES.join(", ")}.`,
    });
  }
  if (dtype === "F32") return new Uint8Array(values.buffer, values.byteOffset, values.byteLength).slice();
  if (dtype === "F64") return new Uint8Array(Float64Array.from(values).buffer);
  const format = dtype === "BF16" ? BFLOAT16 : SMALL_FLOATS[dtype]!;
  const codes = format.bits === 8 ? new Uint8Array(values.length) : new Uint16Array(values.length);
  encodeSmallFloats(values, format, codes);
  return new Uint8Array(codes.buffer);
}

/** The index of the first element that is infinite or NaN, or -1. Errors as `decodeToFloat32`. */
export function findNonFinite(bytes: Uint8Array, dtype: Dtype): number {
  if ((dtype === "F16" || dtype === "BF16") && bytes.length % 2 === 0) {
    const { buffer, byteOffset } = bytes.byteOffset % 2 === 0 ? bytes : bytes.slice();
    const codes = new Uint16Array(buffer, byteOffset, bytes.length / 2);
    return indexOfExponent(codes, dtype === "F16" ? 0x7c00 : 0x7f80);
  }
  // A finite float64 can be infinite as float32.
  const values = dtype === "F64" ? new Float64Array(bytes.slice().buffer) : decodeToFloat32(bytes, dtype);
  // A callback for each of the 2 GB of a checkpoint would take longer than reading them.
  for (let i = 0; i < values.length; i++) if (values[i]! - values[i]! !== 0) return i;
  return -1;
}

/** IEEE formats: all bits of the exponent are set in infinity and NaN, and in nothing else. */
function indexOfExponent(codes: Uint16Array, mask: number): number {
  for (let i = 0; i < codes.length; i++) if ((codes[i]! & mask) === mask) return i;
  return -1;
}

function decodeBfloat16(codes: Uint16Array): Float32Array {
  const words = new Uint32Array(codes.length);
  for (let i = 0; i < codes.length; i++) words[i] = codes[i]! << 16;
  return new Float32Array(words.buffer);
}

function decodeSmallFloats(codes: Uint8Array | Uint16Array, format: SmallFloat): Float32Array {
  const values = new Float32Array(codes.length);
  if (codes.length < TABLE_MIN_ELEMENTS) {
    for (let i = 0; i < codes.length; i++) values[i] = decodeSmallFloat(format, codes[i]!);
    return values;
  }
  const table = decodingTable(format);
  for (let i = 0; i < codes.length; i++) values[i] = table[codes[i]!]!;
  return values;
}
