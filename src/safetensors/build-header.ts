/** `SafetensorsHeader` to bytes, in the canonical form of the Rust reference. */
import { DyloraError, internalError } from "../errors.js";
import { compareDtypes, tensorSize } from "./dtype.js";
import { LENGTH_BYTES, MAX_HEADER_BYTES, METADATA_KEY, type TensorInfo, type TensorSpec } from "./header.js";

const ALIGNMENT_BYTES = 8;
const ASCII = /^\p{ASCII}*$/u;
const LONE_SURROGATE = /\p{Surrogate}/u;

/** Tensors in the order of their data: types of larger alignment first, then by name. */
export interface DataLayout {
  /** `offsetBytes` counts from the start of the data. */
  readonly tensors: readonly TensorInfo[];
  readonly dataBytes: number;
  /** The tensors' part of the header. */
  readonly json: string;
}

/**
 * Lays out tensors as the reference does. The same tensors give the same layout, whatever order they come in.
 *
 * @see `prepare` in safetensors/src/tensor.rs of the reference implementation
 */
export function layoutData(specs: readonly TensorSpec[]): DataLayout {
  const parts: string[] = [];
  let dataBytes = 0;
  const tensors = canonicalOrder(specs).map(({ name, dtype, shape }) => {
    const size = tensorSize(dtype, shape);
    if (!size.ok)
      throw internalError(`tensor ${name} of ${dtype} [${shape.join(", ")}]: size ${size.reason}`);
    const { sizeBytes } = size;
    const offsetBytes = dataBytes;
    dataBytes += sizeBytes;
    parts.push(
      `${jsonString(name)}:{"dtype":"${dtype}","shape":[${shape.join(",")}],"data_offsets":[${offsetBytes},${dataBytes}]}`,
    );
    return { name, dtype, shape, offsetBytes, sizeBytes };
  });
  return { tensors, dataBytes, json: parts.join(",") };
}

/**
 * The bytes before the data: length, JSON, and spaces up to a multiple of 8.
 *
 * @param metadata - written in its own order; null leaves `__metadata__` out, an empty object writes it empty
 * @throws {DyloraError} `E_INCOMPATIBLE` where the header cannot be written (over 100 MB, text that is no Unicode)
 */
export function buildHeader(
  layout: DataLayout,
  metadata: Readonly<Record<string, string>> | null,
): Uint8Array<ArrayBuffer> {
  const parts = metadata === null ? [] : [`"${METADATA_KEY}":${metadataJson(metadata)}`];
  if (layout.json !== "") parts.push(layout.json);
  const json = Buffer.from(`{${parts.join(",")}}`, "utf8");
  const paddedBytes = Math.ceil(json.length / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
  if (paddedBytes > MAX_HEADER_BYTES) {
    throw new DyloraError(
      "E_INCOMPATIBLE",
      `write: the header would take ${paddedBytes} bytes, more than the ${MAX_HEADER_BYTES} that safetensors allows`,
      { note: "Nothing was written. Write less metadata." },
    );
  }
  const bytes = new Uint8Array(LENGTH_BYTES + paddedBytes).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(paddedBytes), true);
  bytes.set(json, LENGTH_BYTES);
  return bytes;
}

function canonicalOrder(specs: readonly TensorSpec[]): TensorSpec[] {
  const names = new Set<string>();
  for (const { name } of specs) {
    if (names.has(name) || name === METADATA_KEY) throw internalError(`write: tensor name ${name} is taken`);
    names.add(name);
  }
  const isPlain = specs.every(({ name }) => ASCII.test(name));
  const compareNames = isPlain ? compareText : compareUtf8;
  return [...specs].sort((a, b) => compareDtypes(a.dtype, b.dtype) || compareNames(a.name, b.name));
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The reference compares UTF-8 bytes, JavaScript UTF-16 units: they disagree beyond the basic plane. */
function compareUtf8(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a, "utf8"), Buffer.from(b, "utf8"));
}

function metadataJson(metadata: Readonly<Record<string, string>>): string {
  const entries = Object.entries(metadata).map(([key, value]) => `${jsonString(key)}:${jsonString(value)}`);
  return `{${entries.join(",")}}`;
}

/** As serde_json writes it: only what must be escaped is. */
function jsonString(text: string): string {
  if (typeof text !== "string") throw internalError(`write: ${String(text)} is no string`);
  if (LONE_SURROGATE.test(text)) {
    throw new DyloraError("E_INCOMPATIBLE", `write: ${JSON.stringify(text)} holds half of a surrogate pair`, {
      note: "Nothing was written. Names and metadata must be valid Unicode.",
    });
  }
  return JSON.stringify(text);
}
