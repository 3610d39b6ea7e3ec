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

/** `sshs_model_hash` of a file as it is on the disk: reads all of its data, a piece at a time. */
export async function computeModelHash(
  file: Pick<SafetensorsFile, "header" | "stream">,
  hash = sha256Stream(),
): Promise<string> {
  for (const name of file.header.tensors.keys()) {
    for await (const bytes of file.stream(name)) await hash.update(bytes);
  }
  return hash.digest();
}
