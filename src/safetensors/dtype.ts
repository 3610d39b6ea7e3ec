/** The element types that a safetensors file can hold, as the Rust reference defines them. */

/**
 * Size of one element in bits, and what the numbers mean.
 *
 * Written in the reference's order of increasing alignment: files are laid out in the reverse of this order.
 *
 * @see `Dtype` in safetensors/src/tensor.rs of the reference implementation
 */
export const DTYPES = {
  BOOL: { bits: 8, kind: "boolean" },
  F4: { bits: 4, kind: "float" },
  F6_E2M3: { bits: 6, kind: "float" },
  F6_E3M2: { bits: 6, kind: "float" },
  U8: { bits: 8, kind: "integer" },
  I8: { bits: 8, kind: "integer" },
  F8_E5M2: { bits: 8, kind: "float" },
  F8_E4M3: { bits: 8, kind: "float" },
  F8_E8M0: { bits: 8, kind: "float" },
  F8_E4M3FNUZ: { bits: 8, kind: "float" },
  F8_E5M2FNUZ: { bits: 8, kind: "float" },
  I16: { bits: 16, kind: "integer" },
  U16: { bits: 16, kind: "integer" },
  F16: { bits: 16, kind: "float" },
  BF16: { bits: 16, kind: "float" },
  I32: { bits: 32, kind: "integer" },
  U32: { bits: 32, kind: "integer" },
  F32: { bits: 32, kind: "float" },
  C64: { bits: 64, kind: "complex" },
  F64: { bits: 64, kind: "float" },
  I64: { bits: 64, kind: "integer" },
  U64: { bits: 64, kind: "integer" },
} as const;

export type Dtype = keyof typeof DTYPES;

const LAYOUT_ORDER: ReadonlyMap<Dtype, number> = new Map(
  (Object.keys(DTYPES) as Dtype[]).reverse().map((dtype, index) => [dtype, index]),
);

export function isDtype(name: string): name is Dtype {
  return Object.hasOwn(DTYPES, name);
}

/** Negative where tensors of type `a` come before those of type `b` in a file. */
export function compareDtypes(a: Dtype, b: Dtype): number {
  return LAYOUT_ORDER.get(a)! - LAYOUT_ORDER.get(b)!;
}

/** Size of one element in bytes, or null for types smaller than a byte. */
export function elementBytes(dtype: Dtype): number | null {
  const { bits } = DTYPES[dtype];
  return bits < 8 ? null : bits / 8;
}

/** The number of elements, 1 for a scalar (`[]`); null where it is too large to count exactly (2^53 and more). */
export function elementCount(shape: readonly number[]): number | null {
  let count = 1;
  // By index: for the hundreds of shapes of a header, in code that has no time to get warm, iterators take milliseconds.
  for (let i = 0; i < shape.length; i++) {
    count *= shape[i]!;
    if (!Number.isSafeInteger(count)) return null;
  }
  return count;
}

export type TensorSize =
  | { readonly ok: true; readonly sizeBytes: number }
  /** `overflow`: larger than 2^53 bits; `fraction`: a type smaller than a byte does not fill its last byte. */
  | { readonly ok: false; readonly reason: "overflow" | "fraction" };

/** Size in bytes of a tensor's data. */
export function tensorSize(dtype: Dtype, shape: readonly number[]): TensorSize {
  const count = elementCount(shape);
  const bits = count === null ? null : count * DTYPES[dtype].bits;
  if (bits === null || !Number.isSafeInteger(bits)) return { ok: false, reason: "overflow" };
  if (bits % 8 !== 0) return { ok: false, reason: "fraction" };
  return { ok: true, sizeBytes: bits / 8 };
}
