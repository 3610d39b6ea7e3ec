/** What the header of a safetensors file says. */
import type { Dtype } from "./dtype.js";

/** A tensor's description, without a place in a file. */
export interface TensorSpec {
  readonly name: string;
  readonly dtype: Dtype;
  /** Row-major; `[]` is a scalar. */
  readonly shape: readonly number[];
}

export interface TensorInfo extends TensorSpec {
  /** Absolute position in the file. */
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

export interface SafetensorsHeader {
  /** By name, in the order of their data in the file. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** `__metadata__`, or null where the file has none. */
  readonly metadata: Readonly<Record<string, string>> | null;
  /** Where the tensors' data begins in the file. */
  readonly dataStartBytes: number;
}

/** Size of the little-endian number before the header. */
export const LENGTH_BYTES = 8;

/** The reference implementation's limit: a header is read into memory as a whole, whoever wrote it. */
export const MAX_HEADER_BYTES = 100_000_000;

/** The key whose value is no tensor. */
export const METADATA_KEY = "__metadata__";
