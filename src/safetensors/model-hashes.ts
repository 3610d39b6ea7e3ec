/**
 * The two hashes by which A1111's additional networks, kohya's tools and Civitai recognise an adapter.
 *
 * `sshs_model_hash`: SHA-256 of everything behind the header, so that editing the metadata does not change it.
 * `sshs_legacy_hash`: first 8 hexadecimal digits of the SHA-256 of 64 KiB at 1 MiB, counted in a file whose metadata are
 * only the `ss_` keys.
 */
import { createSha256 } from "../io/index.js";
import { buildHeader, type DataLayout } from "./build-header.js";
import type { SafetensorsFile } from "./file.js";
import { sha256Stream } from "./stream-hash.js";

export const MODEL_HASH_KEY = "sshs_model_hash";
export const LEGACY_HASH_KEY = "sshs_legacy_hash";

/** As long as the hashes that replace them once the data are known. */
export const HASH_PLACEHOLDERS: Readonly<Record<string, string>> = {
  [MODEL_HASH_KEY]: "0".repeat(64),
  [LEGACY_HASH_KEY]: "0".repeat(8),
};

const LEGACY_BEGIN = 0x100000;
const LEGACY_END = LEGACY_BEGIN + 0x10000;

/** Collects `sshs_legacy_hash` from the data as they are written, front to back. */
export class LegacyHash {
  readonly #hash = createSha256();
  #position = 0;

  constructor(layout: DataLayout, metadata: Readonly<Record<string, string>>) {
    const trainingOnly = Object.entries(metadata).filter(([key]) => key.startsWith("ss_"));
    this.update(buildHeader(layout, Object.fromEntries(trainingOnly)));
  }

  update(bytes: Uint8Array): void {
    const begin = Math.max(0, LEGACY_BEGIN - this.#position);
    const end = Math.min(bytes.length, LEGACY_END - this.#position);
    if (begin < end) this.#hash.update(bytes.subarray(begin, end));
    this.#position += bytes.length;
  }

  digest(): string {
    return this.#hash.digest("hex").slice(0, 8);
  }
}

/** Large enough that calls cost nothing, small enough for a cache. */
const PIECE_BYTES = 1 << 20;

/** `sshs_model_hash` of a file as it is on the disk: reads all of its data, a piece while the one before is hashed. */
export async function computeModelHash(
  file: Pick<SafetensorsFile, "header" | "readInto">,
  hash = sha256Stream(),
): Promise<string> {
  const tensors = [...file.header.tensors.values()];
  const dataBytes = tensors.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  // Shared memory: another thread can hash it without a copy.
  const pieces = [0, 1].map(() => ({
    bytes: new Uint8Array(new SharedArrayBuffer(Math.min(dataBytes, PIECE_BYTES))),
    busy: Promise.resolve(),
  }));
  let filledBytes = 0;
  const flush = async () => {
    const piece = pieces.shift()!;
    piece.busy = Promise.resolve(hash.update(piece.bytes.subarray(0, filledBytes)));
    piece.busy.catch(() => undefined); // Reported when it is waited for.
    pieces.push(piece);
    filledBytes = 0;
    await pieces[0]!.busy;
  };
  for (const { name, sizeBytes } of tensors) {
    for (let begin = 0; begin < sizeBytes; ) {
      const room = pieces[0]!.bytes.subarray(filledBytes, filledBytes + sizeBytes - begin);
      await file.readInto(name, begin, room);
      begin += room.length;
      filledBytes += room.length;
      if (filledBytes === pieces[0]!.bytes.length) await flush();
    }
  }
  await flush();
  await Promise.all(pieces.map(({ busy }) => busy));
  return hash.digest();
}
