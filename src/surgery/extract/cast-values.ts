/** Numbers from one type into another, refusing those that the other type cannot hold. */
import { DyloraError } from "../../errors.js";
import { type Dtype, decodeToFloat32, encodeFromFloat32 } from "../../safetensors/index.js";

/** The types that copies can be written in. */
export const COPY_DTYPES = ["F32", "F16", "BF16"] as const;
export type CopyDtype = (typeof COPY_DTYPES)[number];

/** The largest finite number of each. What is above may still round to it. */
const LARGEST: Readonly<Record<CopyDtype, number>> = {
  F32: 2 ** 128 - 2 ** 104,
  F16: 65504,
  BF16: 2 ** 128 - 2 ** 120,
};

export interface Cast {
  readonly from: Dtype;
  readonly to: CopyDtype;
  /** Elements of a row of `bytes`, and how many of them, from its begin, are of use: others may overflow. */
  readonly columns: number;
  readonly usedColumns: number;
  /** What an error names. */
  readonly subject: string;
}

/**
 * Whole rows in another type, each number rounded to the nearest, on a tie to the even one. Infinity and NaN stay.
 *
 * @returns memory of its own
 * @throws {DyloraError} `E_INCOMPATIBLE` for a finite number that would become infinite
 */
export function castValues(bytes: Uint8Array, cast: Cast): Uint8Array {
  const { from, to, columns, usedColumns, subject } = cast;
  const values = decodeToFloat32(bytes, from);
  // A finite float64 may be infinite as float32 already.
  const originals = from === "F64" ? new Float64Array(bytes.slice().buffer) : values;
  const largest = LARGEST[to];
  for (let i = 0; i < originals.length; i++) {
    const magnitude = Math.abs(originals[i]!);
    if (magnitude > largest && magnitude !== Number.POSITIVE_INFINITY && i % columns < usedColumns) {
      if (!Number.isFinite(rounded(magnitude, to))) throw overflowError(originals[i]!, to, subject);
    }
  }
  return encodeFromFloat32(values, to);
}

function rounded(value: number, to: CopyDtype): number {
  return decodeToFloat32(encodeFromFloat32(Float32Array.of(value), to), to)[0]!;
}

function overflowError(value: number, to: CopyDtype, subject: string): DyloraError {
  const wider = to === "F16" ? "BF16 or F32" : to === "BF16" ? "F32" : null;
  return new DyloraError(
    "E_INCOMPATIBLE",
    `${subject}: the value ${value} is too large for ${to}, which ends at ${LARGEST[to]}`,
    {
      note: `The copies that need it were not written. ${wider === null ? "Leave out --dtype" : `Choose --dtype ${wider}, or leave it out`}.`,
    },
  );
}
