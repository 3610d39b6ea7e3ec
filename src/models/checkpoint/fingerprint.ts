/** A short name for the weights of a model that does not take reading all of them. */

import { createHash } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";
import { readError } from "../../io/file-error.js";
import type { Weights } from "./types.js";

/** Bytes read of each tensor, from its middle. */
const SAMPLE_SIZE_BYTES = 4096;

/**
 * SHA-256 over name, shape, type and 4 KiB of every tensor: about 3 MB are read of a U-Net of gigabytes. Fine-tuning changes
 * every tensor, and replacing one model of a checkpoint every tensor of that model, so two models that differ have
 * different fingerprints unless somebody edits single weights by hand.
 *
 * @throws {DyloraError} `E_NOT_FOUND`, `E_READ`
 */
export async function weightsFingerprint(weights: Weights): Promise<string> {
  const hash = createHash("sha256");
  const files = new Map<string, FileHandle>();
  try {
    for (const name of [...weights.keys()].sort()) {
      const { filePath, dtype, shape, offsetBytes, sizeBytes } = weights.get(name)!;
      hash.update(JSON.stringify([name, dtype, shape]));
      const length = Math.min(sizeBytes, SAMPLE_SIZE_BYTES);
      const position = offsetBytes + Math.floor((sizeBytes - length) / 2);
      const sample = new Uint8Array(length);
      try {
        const file = files.get(filePath) ?? (await open(filePath, "r"));
        files.set(filePath, file);
        await file.read(sample, 0, length, position);
      } catch (cause) {
        throw readError(filePath, cause);
      }
      hash.update(sample);
    }
  } finally {
    for (const file of files.values()) await file.close();
  }
  return hash.digest("hex");
}
