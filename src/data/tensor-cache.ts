/**
 * A cache for what frozen models compute from the data: a few float32 tensors under the key of everything they depend
 * on. Because the key is made of contents (image bytes, weights, options) and never of names or dates, an entry
 * cannot go stale: a changed image or model asks for another key.
 */
import { createHash } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { DyloraError } from "../errors.js";
import { describeSystemError } from "../io/file-error.js";
import { encodeFromFloat32, SafetensorsFile, writeSafetensors } from "../safetensors/index.js";

export interface CachedTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** Tensor name -> tensor. */
export type TensorRecord = Readonly<Record<string, CachedTensor>>;

export interface TensorCache {
  /** The record, or null where there is none that can be trusted. */
  get(key: string): Promise<TensorRecord | null>;
  put(key: string, record: TensorRecord): Promise<void>;
}

/** Folder of the cache inside the data folder. The leading dot keeps it out of the scan. */
export const CACHE_FOLDER_NAME = ".dylora-cache";

export function defaultCacheDir(dataDir: string): string {
  return join(dataDir, CACHE_FOLDER_NAME);
}

/**
 * Key of a record: a SHA-256 over everything that it depends on.
 *
 * @param kind - what is cached; different kinds never share a key
 */
export function cacheKey(
  kind: string,
  dependencies: Readonly<Record<string, string | number | boolean | readonly number[]>>,
): string {
  return createHash("sha256")
    .update(JSON.stringify([kind, Object.entries(dependencies)]))
    .digest("hex");
}

/** `--cache_latents`: gone with the process. */
export class MemoryTensorCache implements TensorCache {
  readonly #records = new Map<string, TensorRecord>();

  async get(key: string): Promise<TensorRecord | null> {
    return this.#records.get(key) ?? null;
  }

  async put(key: string, record: TensorRecord): Promise<void> {
    this.#records.set(key, record);
  }
}

/** Metadata keys of a cache file. */
const KEY_FIELD = "dylora_cache_key";
const HASH_FIELD = "dylora_cache_sha256";

/** `--cache_latents_to_disk`: one safetensors file for each record, `<key>.safetensors`, written atomically. */
export class DiskTensorCache implements TensorCache {
  readonly dir: string;

  private constructor(dir: string) {
    this.dir = dir;
  }

  /**
   * Creates the folder where it is missing.
   *
   * @throws {DyloraError} `E_WRITE` if it cannot be created
   */
  static async open(dir: string): Promise<DiskTensorCache> {
    try {
      await mkdir(dir, { recursive: true });
    } catch (cause) {
      throw cacheNotWritable(dir, describeSystemError(cause), cause);
    }
    return new DiskTensorCache(dir);
  }

  /**
   * Reads a record back. A file that is damaged, truncated or not ours counts as absent: the caller computes the
   * record anew and `put` replaces the file.
   */
  async get(key: string): Promise<TensorRecord | null> {
    let file: SafetensorsFile;
    try {
      file = await SafetensorsFile.open(this.#pathOf(key));
    } catch (error) {
      if (isUnusableFile(error)) return null;
      throw error;
    }
    try {
      const { metadata, tensors } = file.header;
      if (metadata?.[KEY_FIELD] !== key) return null;
      const record: Record<string, CachedTensor> = {};
      for (const { name, dtype, shape } of tensors.values()) {
        if (dtype !== "F32") return null;
        record[name] = { shape, data: await file.readFloat32(name) };
      }
      return metadata[HASH_FIELD] === hashRecord(record) ? record : null;
    } catch (error) {
      if (isUnusableFile(error)) return null;
      throw error;
    } finally {
      await file.close();
    }
  }

  /** @throws {DyloraError} `E_WRITE` if the file cannot be written (disk full, folder not writable) */
  async put(key: string, record: TensorRecord): Promise<void> {
    const tensors = Object.entries(record).map(([name, { shape, data }]) => ({
      name,
      dtype: "F32" as const,
      shape,
      data: async () => encodeFromFloat32(data, "F32"),
    }));
    try {
      await writeSafetensors(this.#pathOf(key), tensors, {
        metadata: { [KEY_FIELD]: key, [HASH_FIELD]: hashRecord(record) },
        overwrite: true,
      });
    } catch (cause) {
      if (!(cause instanceof DyloraError) || cause.code !== "E_WRITE") throw cause;
      throw cacheNotWritable(this.dir, cause.message, cause);
    }
  }

  #pathOf(key: string): string {
    return join(this.dir, `${key}.safetensors`);
  }
}

/** SHA-256 over names, shapes and values. Finds the flipped bit that a safetensors header cannot know about. */
function hashRecord(record: TensorRecord): string {
  const hash = createHash("sha256");
  for (const name of Object.keys(record).sort()) {
    const { shape, data } = record[name]!;
    hash.update(JSON.stringify([name, shape]));
    hash.update(encodeFromFloat32(data, "F32"));
  }
  return hash.digest("hex");
}

function isUnusableFile(error: unknown): boolean {
  return (
    error instanceof DyloraError &&
    (error.code === "E_NOT_FOUND" || error.code === "E_READ" || error.code === "E_FORMAT")
  );
}

function cacheNotWritable(dir: string, problem: string, cause: unknown): DyloraError {
  return new DyloraError("E_WRITE", `cache: ${dir} cannot be written: ${problem}`, {
    note:
      "Use --cache_latents to keep the encoded images in memory, or make the folder writable. " +
      "Images and captions were not touched.",
    cause,
  });
}
