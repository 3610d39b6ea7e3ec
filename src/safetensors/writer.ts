/** Writes a safetensors file front to back, holding two small buffers of it in memory. */
import { internalError } from "../errors.js";
import { AtomicFile } from "../io/index.js";
import { buildHeader, type DataLayout } from "./build-header.js";
import { HASH_PLACEHOLDERS, LEGACY_HASH_KEY, LegacyHash, MODEL_HASH_KEY } from "./model-hashes.js";
import { type StreamHash, sha256Stream } from "./stream-hash.js";

/** Large enough that a write costs the disk's time and not the call's. */
const DEFAULT_BUFFER_BYTES = 1 << 20;

export interface WriterOptions {
  /** `__metadata__`; null (default) writes none. */
  readonly metadata?: Readonly<Record<string, string>> | null;
  /** Replace an existing file. Default false: an existing file is `E_EXISTS`. */
  readonly overwrite?: boolean;
  /** Add `sshs_model_hash` and `sshs_legacy_hash` to the metadata. Default false. */
  readonly hashes?: boolean;
  /** Size of each of the two buffers. Default 1 MiB. */
  readonly bufferBytes?: number;
  /** Where the SHA-256 is computed. Default: on this thread. Null: it is not computed, and `hashes` must be false. */
  readonly hash?: StreamHash | null;
}

/** @typeParam Sha256 - null where the writer was made with `hash: null` */
export interface WriteResult<Sha256 extends string | null = string> {
  readonly path: string;
  readonly sizeBytes: number;
  /** SHA-256 of everything behind the header. */
  readonly dataSha256: Sha256;
}

interface WriteBuffer {
  readonly bytes: Uint8Array;
  /** Settled when the bytes are written and hashed, and the buffer may be filled again. */
  busy: Promise<void>;
}

/**
 * `create`, `claim` or `write` all data in the order of `layout`, `finish`, `publish`; `discard` on any error.
 *
 * Bytes go to a temporary file; the target appears, whole, at `publish`.
 */
export class SafetensorsWriter<Sha256 extends string | null = string> {
  readonly layout: DataLayout;
  readonly #file: AtomicFile;
  readonly #dataStartBytes: number;
  readonly #metadata: Readonly<Record<string, string>> | null;
  readonly #hash: StreamHash | null;
  readonly #legacyHash: LegacyHash | null;
  readonly #buffers: WriteBuffer[];
  /** Bytes filled of the first buffer, and where they belong in the file. */
  #filledBytes = 0;
  #positionBytes: number;

  private constructor(file: AtomicFile, layout: DataLayout, options: WriterOptions) {
    const withHashes = options.hashes ?? false;
    this.#file = file;
    this.#metadata = withHashes ? { ...options.metadata, ...HASH_PLACEHOLDERS } : (options.metadata ?? null);
    this.layout = layout;
    this.#dataStartBytes = buildHeader(this.layout, this.#metadata).length;
    this.#positionBytes = this.#dataStartBytes;
    this.#hash = options.hash === undefined ? sha256Stream() : options.hash;
    if (withHashes && this.#hash === null) throw internalError("hashes in the metadata without a hash");
    this.#legacyHash = withHashes ? new LegacyHash(this.layout, options.metadata ?? {}) : null;
    const { dataBytes } = this.layout;
    const bufferBytes = Math.max(1, Math.min(options.bufferBytes ?? DEFAULT_BUFFER_BYTES, dataBytes));
    // Shared memory: another thread can hash a buffer without a copy.
    this.#buffers = Array.from({ length: dataBytes > bufferBytes ? 2 : 1 }, () => ({
      bytes: new Uint8Array(new SharedArrayBuffer(bufferBytes)),
      busy: Promise.resolve(),
    }));
  }

  /**
   * Opens the temporary file. Nothing is written yet.
   *
   * @throws {DyloraError} `E_EXISTS`, `E_WRITE`, and `E_INCOMPATIBLE` where no header can hold the metadata
   */
  static async create(
    path: string,
    layout: DataLayout,
    options?: WriterOptions & { readonly hash?: StreamHash },
  ): Promise<SafetensorsWriter>;
  static async create(
    path: string,
    layout: DataLayout,
    options: WriterOptions,
  ): Promise<SafetensorsWriter<string | null>>;
  static async create(
    path: string,
    layout: DataLayout,
    options: WriterOptions = {},
  ): Promise<SafetensorsWriter<string | null>> {
    const file = await AtomicFile.create(path, { overwrite: options.overwrite ?? false });
    try {
      return new SafetensorsWriter(file, layout, options);
    } catch (error) {
      await file.discard();
      throw error;
    }
  }

  /**
   * Room for the next bytes of the file, to be filled before the next call of any method.
   *
   * @param wantedBytes - how many bytes follow; the room may be smaller
   * @param unitBytes - the room is a multiple of it, so that a row of a matrix is never cut; `wantedBytes` must be one
   */
  async claim(wantedBytes: number, unitBytes = 1): Promise<Uint8Array> {
    const { bytes } = this.#buffers[0]!;
    if (unitBytes > bytes.length)
      throw internalError(`rows of ${unitBytes} bytes in a buffer of ${bytes.length}`);
    if (bytes.length - this.#filledBytes < unitBytes) await this.#flush();
    const begin = this.#filledBytes;
    const room = Math.floor((this.#buffers[0]!.bytes.length - begin) / unitBytes) * unitBytes;
    this.#filledBytes = begin + Math.min(wantedBytes, room);
    return this.#buffers[0]!.bytes.subarray(begin, this.#filledBytes);
  }

  /** Appends bytes. They may be changed once the promise is resolved. */
  async write(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const room = await this.claim(bytes.length - done);
      room.set(bytes.subarray(done, done + room.length));
      done += room.length;
    }
  }

  /**
   * Writes the header and waits until everything is on the disk. The target is still as it was.
   *
   * @param lateMetadata - values that were not known at `create`, each as long as what `metadata` held in its place
   */
  async finish(lateMetadata: Readonly<Record<string, string>> = {}): Promise<WriteResult<Sha256>> {
    await this.#flush();
    await Promise.all(this.#buffers.map(({ busy }) => busy));
    const { dataBytes } = this.layout;
    const givenBytes = this.#positionBytes - this.#dataStartBytes;
    if (givenBytes !== dataBytes) {
      throw internalError(`write ${this.#file.path}: ${givenBytes} of ${dataBytes} bytes were given`);
    }
    const dataSha256 = this.#hash === null ? null : await this.#hash.digest();
    const metadata = this.#metadata === null ? null : { ...this.#metadata, ...lateMetadata };
    if (metadata !== null && dataSha256 !== null && this.#legacyHash !== null) {
      metadata[MODEL_HASH_KEY] = dataSha256;
      metadata[LEGACY_HASH_KEY] = this.#legacyHash.digest();
    }
    const header = buildHeader(this.layout, metadata);
    if (header.length !== this.#dataStartBytes) {
      throw internalError("late metadata changed the size of the header");
    }
    await this.#file.write(header, 0);
    await this.#file.sync();
    return {
      path: this.#file.path,
      sizeBytes: header.length + dataBytes,
      dataSha256: dataSha256 as Sha256,
    };
  }

  /** Gives the finished file its name. */
  async publish(): Promise<void> {
    await this.#file.publish();
  }

  /** Removes what was written, unless it is published. Never fails. */
  async discard(): Promise<void> {
    // A write or a hash that is still under way uses the file or the buffers.
    await Promise.allSettled(this.#buffers.map(({ busy }) => busy));
    await this.#file.discard();
  }

  /** Sends the first buffer on its way and brings the other one to the front. */
  async #flush(): Promise<void> {
    if (this.#filledBytes === 0) return;
    const buffer = this.#buffers.shift()!;
    const bytes = buffer.bytes.subarray(0, this.#filledBytes);
    const position = this.#positionBytes;
    this.#positionBytes += bytes.length;
    this.#filledBytes = 0;
    this.#legacyHash?.update(bytes);
    // The write runs in the thread pool while this thread, or another, computes the hash.
    const written = this.#file.write(bytes, position);
    buffer.busy = Promise.all([written, this.#hash?.update(bytes)]).then(() => undefined);
    buffer.busy.catch(() => undefined); // Reported by whoever waits for the buffer next.
    this.#buffers.push(buffer);
    await this.#buffers[0]!.busy;
  }
}
