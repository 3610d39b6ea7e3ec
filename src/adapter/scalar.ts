/** Scalars in files, such as alpha: any number type, no rounding. */
import { decodeToFloat32, encodeFromFloat32, isWritableDtype } from "../safetensors/codecs.js";
import { DTYPES, type Dtype } from "../safetensors/dtype.js";

/** The value of a tensor of one element. Errors as `decodeToFloat32`. */
export function decodeScalar(bytes: Uint8Array, dtype: Dtype): number {
  if (dtype === "F64") return new DataView(bytes.buffer, bytes.byteOffset).getFloat64(0, true);
  return decodeToFloat32(bytes, dtype)[0]!;
}

/** The bytes of one element, or null where `dtype` cannot hold `value` exactly. */
export function encodeScalar(value: number, dtype: Dtype): Uint8Array | null {
  const { bits, kind } = DTYPES[dtype];
  const view = new DataView(new ArrayBuffer(8));
  if (dtype === "F64") {
    view.setFloat64(0, value, true);
  } else if (kind === "integer") {
    const isSigned = dtype.startsWith("I");
    const limit = isSigned ? 2 ** (bits - 1) : 2 ** bits;
    if (!Number.isSafeInteger(value) || value >= limit || value < (isSigned ? -limit : 0)) return null;
    view.setBigInt64(0, BigInt(value), true);
  } else if (isWritableDtype(dtype)) {
    const bytes = encodeFromFloat32(Float32Array.of(value), dtype);
    return decodeScalar(bytes, dtype) === value ? bytes : null;
  } else {
    return null;
  }
  return new Uint8Array(view.buffer, 0, bits / 8);
}

/** A scalar in the type that was asked for, or as float32 where that type would round it. */
export function encodeScalarAs(value: number, wanted: Dtype): { dtype: Dtype; bytes: Uint8Array } {
  const bytes = encodeScalar(value, wanted);
  if (bytes !== null) return { dtype: wanted, bytes };
  return { dtype: "F32", bytes: encodeFromFloat32(Float32Array.of(value), "F32") };
}
