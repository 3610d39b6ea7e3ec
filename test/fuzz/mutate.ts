/** Ways to break a file. The same seed breaks it in the same way. */
import type { RandomStream } from "../../src/random/stream.js";
import {
  entriesJson,
  type FuzzFile,
  type FuzzTensor,
  fileBytes,
  headerOf,
  randomData,
  withLength,
} from "./fuzz-file.js";

import {
  changeBytes,
  changeNumbers,
  changeText,
  DTYPE_NAMES,
  mutateText,
  pick,
  TEXTS,
  VALUES,
  wellFormed,
} from "./mutate-values.js";

export type Mutation = "header" | "file";

/**
 * A mutated file.
 *
 * @param kind - `header`: the header, or the number before it; `file`: anything, also in ways that leave the format valid and
 *   the adapter wrong
 */
export function mutate(file: FuzzFile, kind: Mutation, random: RandomStream): Buffer {
  const ways = kind === "header" ? HEADER_WAYS : FILE_WAYS;
  return pick(ways, random)(file, random);
}

type Way = (file: FuzzFile, random: RandomStream) => Buffer;

const HEADER_WAYS: readonly Way[] = [
  headerBytes,
  headerBytes,
  headerText,
  headerEntries,
  headerEntries,
  headerEntries,
  headerLength,
];
const FILE_WAYS: readonly Way[] = [
  anyBytes,
  cutOff,
  pieceMoved,
  wrongAdapter,
  wrongAdapter,
  wrongAdapter,
  wrongMetadata,
  wrongNumbers,
  headerEntries,
  headerText,
];

/** Single bytes of the header. */
function headerBytes(file: FuzzFile, random: RandomStream): Buffer {
  const bytes = fileBytes(file);
  const length = Number(bytes.readBigUInt64LE(0));
  return changeBytes(bytes, 8, 8 + length, random);
}

/** Pieces of text taken out, put in or replaced; the length follows or does not. */
function headerText(file: FuzzFile, random: RandomStream): Buffer {
  const { entries, dataBytes } = headerOf(file);
  const header = Buffer.from(mutateText(entriesJson(entries), random));
  const length = BigInt(header.length) + (random.int(8) === 0 ? BigInt(random.int(33) - 16) : 0n);
  return withLength(header, randomData(dataBytes, 1), length);
}

/** The header's own structure: types, shapes, offsets, keys. */
function headerEntries(file: FuzzFile, random: RandomStream): Buffer {
  const { entries, dataBytes } = headerOf(file);
  for (let i = 0; i <= random.int(2); i++) changeEntry(entries, random);
  return withLength(Buffer.from(entriesJson(entries)), randomData(dataBytes, 1));
}

function changeEntry(entries: [string, unknown][], random: RandomStream): void {
  if (entries.length === 0) return;
  const index = random.int(entries.length);
  const entry = entries[index]!;
  const value = entry[1] as Record<string, unknown>;
  const isTensor = typeof value === "object" && value !== null && Array.isArray(value.shape);
  switch (random.int(isTensor ? 8 : 4)) {
    case 0:
      entries.splice(index, 1);
      return;
    case 1:
      entries.splice(random.int(entries.length), 0, [entry[0], entry[1]]);
      return;
    case 2:
      entry[0] = random.int(2) === 0 ? pick(TEXTS, random) : changeText(entry[0], random);
      return;
    case 3:
      entry[1] = pick(VALUES, random);
      return;
    case 4:
      entry[1] = { ...value, dtype: random.int(3) === 0 ? pick(VALUES, random) : pick(DTYPE_NAMES, random) };
      return;
    case 5:
      entry[1] = { ...value, shape: changeNumbers(value.shape, random) };
      return;
    case 6:
      entry[1] = { ...value, data_offsets: changeNumbers(value.data_offsets, random) };
      return;
    default:
      entry[1] = {
        ...value,
        [pick(["extra", "dtype", "shape", "data_offsets"], random)]: pick(VALUES, random),
      };
  }
}

function headerLength(file: FuzzFile, random: RandomStream): Buffer {
  const bytes = fileBytes(file);
  const length = bytes.readBigUInt64LE(0);
  const wrong = [
    0n,
    1n,
    7n,
    length - 1n,
    length + 1n,
    length * 2n,
    BigInt(bytes.length),
    100_000_000n,
    100_000_001n,
    2n ** 31n,
    2n ** 32n + length,
    2n ** 53n,
    2n ** 63n,
    2n ** 64n - 1n,
    length ^ (1n << BigInt(random.int(64))),
  ];
  bytes.writeBigUInt64LE(BigInt.asUintN(64, pick(wrong, random)));
  return bytes;
}

function anyBytes(file: FuzzFile, random: RandomStream): Buffer {
  const bytes = fileBytes(file);
  return changeBytes(bytes, 0, bytes.length, random);
}

function cutOff(file: FuzzFile, random: RandomStream): Buffer {
  const bytes = fileBytes(file);
  if (random.int(3) === 0) return Buffer.concat([bytes, randomData(1 + random.int(64), 5)]);
  return bytes.subarray(0, random.int(3) === 0 ? random.int(64) : random.int(bytes.length));
}

function pieceMoved(file: FuzzFile, random: RandomStream): Buffer {
  const bytes = fileBytes(file);
  const begin = random.int(bytes.length);
  const piece = bytes.subarray(begin, begin + random.int(200));
  const rest = Buffer.concat([bytes.subarray(0, begin), bytes.subarray(begin + piece.length)]);
  if (random.int(2) === 0) return rest;
  const at = random.int(rest.length + 1);
  return Buffer.concat([rest.subarray(0, at), piece, rest.subarray(at)]);
}

/** A valid file whose modules are not: names, shapes and types that do not belong together. */
function wrongAdapter(file: FuzzFile, random: RandomStream): Buffer {
  const tensors = [...file.tensors];
  for (let i = 0; i <= random.int(3); i++) changeTensor(tensors, random);
  const names = new Set<string>();
  const distinct = tensors.filter(({ name }) => !names.has(name) && names.add(name));
  return fileBytes({ ...file, tensors: distinct }, 1 + random.int(1000));
}

function changeTensor(tensors: FuzzTensor[], random: RandomStream): void {
  if (tensors.length === 0) return;
  const index = random.int(tensors.length);
  const tensor = tensors[index]!;
  const other = pick(tensors, random);
  switch (random.int(7)) {
    case 0:
      tensors.splice(index, 1);
      return;
    case 1:
      tensors[index] = { ...tensor, shape: other.shape };
      return;
    case 2: {
      const shape = changeNumbers(tensor.shape, random);
      const isSmall =
        Array.isArray(shape) && shape.every((size) => Number.isInteger(size) && size >= 0 && size < 300);
      if (isSmall) tensors[index] = { ...tensor, shape: (shape as number[]).slice(0, 6) };
      return;
    }
    case 3:
      tensors[index] = { ...tensor, dtype: pick(DTYPE_NAMES, random) };
      return;
    case 4:
      tensors[index] = { ...tensor, name: changeText(tensor.name, random) };
      return;
    case 5:
      tensors.push({ ...tensor, name: changeText(other.name, random) });
      return;
    default:
      tensors[index] = { ...other, name: tensor.name };
  }
}

function wrongMetadata(file: FuzzFile, random: RandomStream): Buffer {
  const metadata = new Map(Object.entries(file.metadata ?? {}));
  const keys = [
    ...metadata.keys(),
    "ss_network_args",
    "ss_network_module",
    "ss_network_dim",
    "lora_adapter_metadata",
    "dylora_converted_from",
  ];
  for (let i = 0; i <= random.int(3); i++) {
    const key = random.int(6) === 0 ? wellFormed(pick(TEXTS, random)) : pick(keys, random);
    const value =
      metadata.get(key) ??
      pick(["lycoris.kohya", "networks.dylora", '{"unit": "3"}', '{"version": 1}'], random);
    const changed = random.int(2) === 0 ? JSON.stringify(pick(VALUES, random)) : mutateText(value, random);
    metadata.set(key, wellFormed(changed));
  }
  return fileBytes({ ...file, metadata: Object.fromEntries(metadata) });
}

/** Bits of the data: infinity, NaN, zeros, huge alphas. */
function wrongNumbers(file: FuzzFile, random: RandomStream): Buffer {
  const bytes = fileBytes(file);
  const begin = 8 + Number(bytes.readBigUInt64LE(0));
  if (bytes.length === begin) return bytes;
  if (random.int(3) > 0) return changeBytes(bytes, begin, bytes.length, random);
  const at = begin + random.int(bytes.length - begin);
  return bytes.fill(
    pick([0x00, 0xff, 0x7c, 0x7f, 0x80], random),
    at,
    Math.min(bytes.length, at + random.int(300)),
  );
}
