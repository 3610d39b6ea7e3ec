/** What the Rust reference writes, checked by rules of its own: nothing of src/safetensors is used here. */
import { readFileSync } from "node:fs";
import { expect } from "vitest";

/** In the order of the reference's `Dtype`, whose reverse is the order in a file, and bytes of an element. */
const DTYPE_BYTES: readonly (readonly [string, number])[] = [
  ["F16", 2],
  ["BF16", 2],
  ["F32", 4],
  ["F64", 8],
  ["I64", 8],
];

interface Entry {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data_offsets: readonly [number, number];
}

/**
 * Expects a file to be, byte for byte, what the reference's `serialize` makes of its tensors and metadata: tensors by type and
 * name, no gaps, compact JSON with the metadata first, padded with as few spaces as bring the data to a multiple of 8.
 *
 * @see `prepare` and `serialize` in safetensors/src/tensor.rs
 */
export function expectReferenceLayout(path: string): void {
  const bytes = readFileSync(path);
  const headerBytes = Number(bytes.readBigUInt64LE(0));
  const text = bytes.subarray(8, 8 + headerBytes).toString("utf8");
  const { __metadata__: metadata, ...tensors } = JSON.parse(text) as Record<string, Entry> & {
    __metadata__?: Record<string, string>;
  };
  const order = (dtype: string) => DTYPE_BYTES.findIndex(([name]) => name === dtype);
  const names = Object.keys(tensors).sort(
    (a, b) =>
      order(tensors[b]!.dtype) - order(tensors[a]!.dtype) || Buffer.compare(Buffer.from(a), Buffer.from(b)),
  );
  expect(names.length).toBeGreaterThan(0);
  let offset = 0;
  const parts = metadata === undefined ? [] : [`"__metadata__":${JSON.stringify(metadata)}`];
  for (const name of names) {
    const { dtype, shape } = tensors[name]!;
    const [, elementBytes] = DTYPE_BYTES[order(dtype)]!;
    const end = offset + shape.reduce((product, size) => product * size, elementBytes);
    parts.push(
      `${JSON.stringify(name)}:{"dtype":"${dtype}","shape":[${shape.join(",")}],"data_offsets":[${offset},${end}]}`,
    );
    offset = end;
  }
  const json = `{${parts.join(",")}}`;
  expect(text).toBe(json + " ".repeat((8 - (Buffer.byteLength(json) % 8)) % 8));
  expect(bytes.length).toBe(8 + headerBytes + offset);
}
