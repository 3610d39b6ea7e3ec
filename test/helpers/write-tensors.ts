/** Safetensors files with given names and shapes and random numbers. */

import { encodeScalar } from "../../src/adapter/index.js";
import {
  type Dtype,
  elementBytes,
  encodeFromFloat32,
  isWritableDtype,
  type WriteResult,
  writeSafetensors,
} from "../../src/safetensors/index.js";
import { randomValues } from "./random-adapter.js";

export interface TensorToWrite {
  readonly name: string;
  readonly shape: readonly number[];
  /** Default F16. */
  readonly dtype?: Dtype;
  /** Of a tensor of one element; default: random. */
  readonly value?: number;
}

export interface WriteTensorsOptions {
  /** Default: none. */
  readonly metadata?: Readonly<Record<string, string>> | null;
  /** Add the `sshs_` hashes. Default false. */
  readonly hashes?: boolean;
  /** The same seed gives the same numbers. Default 1. */
  readonly seed?: number;
}

/** An existing file is replaced. */
export async function writeTensors(
  path: string,
  tensors: readonly TensorToWrite[],
  { metadata = null, hashes = false, seed = 1 }: WriteTensorsOptions = {},
): Promise<WriteResult> {
  const sources = tensors.map(({ name, shape, dtype = "F16", value }, index) => ({
    name,
    shape,
    dtype,
    data: () =>
      value === undefined ? randomBytes(shape, dtype, seed * 1000 + index) : scalarBytes(value, dtype),
  }));
  return writeSafetensors(path, sources, { metadata, hashes, overwrite: true });
}

function randomBytes(shape: readonly number[], dtype: Dtype, seed: number): Uint8Array {
  const count = shape.reduce((product, size) => product * size, 1);
  const values = randomValues(count, seed);
  if (isWritableDtype(dtype)) return encodeFromFloat32(values, dtype);
  return Uint8Array.from(
    { length: count * elementBytes(dtype)! },
    (_, i) => (values[i % count]! * 1e6) & 0xff,
  );
}

function scalarBytes(value: number, dtype: Dtype): Uint8Array {
  // A value that the type cannot hold is rounded, as trainers do.
  if (isWritableDtype(dtype)) return encodeFromFloat32(Float32Array.of(value), dtype);
  return encodeScalar(value, dtype)!;
}
