/** The two hashes of a base model file that LoRA metadata carries (`ss_sd_model_hash`, `ss_new_sd_model_hash`). */
import { createHash } from "node:crypto";
import { open, stat } from "node:fs/promises";
import { DyloraError } from "../../errors.js";
import { readError } from "../../io/file-error.js";

/** Where the sample of the old hash lies: 64 KiB at 1 MiB. */
const SAMPLE_OFFSET_BYTES = 0x100000;
const SAMPLE_SIZE_BYTES = 0x10000;
/** Large reads keep the hash, not the calls, the bottleneck. */
const CHUNK_SIZE_BYTES = 1024 * 1024;

/**
 * The old, short hash of stable-diffusion-webui: first 8 hex digits of the SHA-256 of 64 KiB at offset 1 MiB, or of what
 * is there of them.
 *
 * @returns null for a folder, which has no such hash
 */
export async function sdModelHash(path: string): Promise<string | null> {
  try {
    if ((await stat(path)).isDirectory()) return null;
    const file = await open(path, "r");
    try {
      const sample = new Uint8Array(SAMPLE_SIZE_BYTES);
      let filled = 0;
      while (filled < sample.length) {
        const position = SAMPLE_OFFSET_BYTES + filled;
        const { bytesRead } = await file.read(sample, filled, sample.length - filled, position);
        if (bytesRead === 0) break;
        filled += bytesRead;
      }
      return createHash("sha256").update(sample.subarray(0, filled)).digest("hex").slice(0, 8);
    } finally {
      await file.close();
    }
  } catch (cause) {
    throw readError(path, cause);
  }
}

export interface Sha256Options {
  /** Stops the reading; the promise then rejects with the signal's reason. */
  signal?: AbortSignal;
  onProgress?: (readBytes: number, totalBytes: number) => void;
}

/**
 * SHA-256 of a whole file in lower-case hex, read in pieces.
 *
 * @returns null for a folder
 */
export async function sha256OfFile(path: string, options: Sha256Options = {}): Promise<string | null> {
  const { signal, onProgress } = options;
  signal?.throwIfAborted();
  const hash = createHash("sha256");
  // One piece of memory: as a stream, a checkpoint of 2 GB would have garbage collected sixty times.
  const chunk = new Uint8Array(CHUNK_SIZE_BYTES);
  try {
    const stats = await stat(path);
    if (stats.isDirectory()) return null;
    const file = await open(path, "r");
    try {
      for (let readBytes = 0; ; ) {
        signal?.throwIfAborted();
        const { bytesRead } = await file.read(chunk, 0, chunk.length, readBytes);
        if (bytesRead === 0) break;
        hash.update(chunk.subarray(0, bytesRead));
        readBytes += bytesRead;
        onProgress?.(readBytes, stats.size);
      }
    } finally {
      await file.close();
    }
  } catch (cause) {
    signal?.throwIfAborted();
    if (cause instanceof DyloraError) throw cause;
    throw readError(path, cause);
  }
  return hash.digest("hex");
}
