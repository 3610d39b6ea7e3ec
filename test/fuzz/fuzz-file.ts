/** A safetensors file as data, before it has bytes: so that it can be wrong in any way. */
import { DTYPES, type Dtype } from "../../src/safetensors/index.js";
import { randomValues } from "../helpers/random-adapter.js";

export interface FuzzTensor {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
}

export interface FuzzFile {
  readonly title: string;
  readonly metadata: Readonly<Record<string, string>> | null;
  readonly tensors: readonly FuzzTensor[];
}

/** The header as text, with offsets as they should be, and the size of the data. */
export function headerOf({ metadata, tensors }: FuzzFile): {
  entries: [string, unknown][];
  dataBytes: number;
} {
  const entries: [string, unknown][] = metadata === null ? [] : [["__metadata__", metadata]];
  let offset = 0;
  for (const { name, dtype, shape } of tensors) {
    const size = Math.ceil((shape.reduce((product, length) => product * length, 1) * DTYPES[dtype].bits) / 8);
    entries.push([name, { dtype, shape, data_offsets: [offset, offset + size] }]);
    offset += size;
  }
  return { entries, dataBytes: offset };
}

/** JSON of an object whose keys may occur twice. */
export function entriesJson(entries: readonly (readonly [string, unknown])[]): string {
  return `{${entries.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(",")}}`;
}

export function withLength(header: Uint8Array, data: Uint8Array, length = BigInt(header.length)): Buffer {
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt.asUintN(64, length));
  return Buffer.concat([prefix, header, data]);
}

/** Small random numbers: valid float16, float32 and so on, mostly. */
export function randomData(sizeBytes: number, seed: number): Uint8Array {
  const values = randomValues(Math.ceil(sizeBytes / 4), seed);
  return new Uint8Array(values.buffer, 0, sizeBytes);
}

export function fileBytes(file: FuzzFile, seed = 1): Buffer {
  const { entries, dataBytes } = headerOf(file);
  return withLength(Buffer.from(entriesJson(entries)), randomData(dataBytes, seed));
}
