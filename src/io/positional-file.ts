/** A file that is read by position. */
// Not a FileHandle: loading node:fs/promises takes 3 ms, nearly as long as reading the header of an adapter.
import { close, fstat, open, read, readSync, type Stats } from "node:fs";
import { DyloraError, internalError } from "../errors.js";
import { readError } from "./file-error.js";

/** Node.js refuses to read more than 2 GiB - 1 at once. */
const MAX_READ_BYTES = 2 ** 30;

/** Close it in the end. */
export class PositionalFile {
  readonly path: string;
  readonly sizeBytes: number;
  /** Null once it is closed. */
  #descriptor: number | null;
  #readsUnderWay = 0;
  /** Called when no read is under way any more. */
  #onIdle: (() => void) | null = null;

  private constructor(path: string, sizeBytes: number, descriptor: number) {
    this.path = path;
    this.sizeBytes = sizeBytes;
    this.#descriptor = descriptor;
  }

  /** @throws {DyloraError} `E_NOT_FOUND`, `E_READ` */
  static async open(path: string): Promise<PositionalFile> {
    try {
      const descriptor = await openFile(path);
      try {
        const stats = await statFile(descriptor);
        if (stats.isDirectory()) throw Object.assign(new Error("is a folder"), { code: "EISDIR" });
        return new PositionalFile(path, stats.size, descriptor);
      } catch (cause) {
        await closeFile(descriptor);
        throw cause;
      }
    } catch (cause) {
      throw readError(path, cause);
    }
  }

  /**
   * Fills `target` from `positionBytes` on.
   *
   * @throws {DyloraError} `E_READ`, also where the file ends before `target` is full
   */
  async read(target: Uint8Array, positionBytes: number): Promise<void> {
    const descriptor = this.#open();
    this.#readsUnderWay++;
    try {
      for (let done = 0; done < target.length; ) {
        const length = Math.min(target.length - done, MAX_READ_BYTES);
        const bytesRead = await readFile(descriptor, target, done, length, positionBytes + done);
        if (bytesRead === 0) throw this.#tooShort(positionBytes + target.length);
        done += bytesRead;
      }
    } catch (cause) {
      throw readError(this.path, cause);
    } finally {
      this.#readsUnderWay--;
      if (this.#readsUnderWay === 0) this.#onIdle?.();
    }
  }

  /** As `read`, at once: for a few bytes, which take less time than a promise. */
  readSync(target: Uint8Array, positionBytes: number): void {
    const descriptor = this.#open();
    let bytesRead: number;
    try {
      bytesRead = readSync(descriptor, target, 0, target.length, positionBytes);
    } catch (cause) {
      throw readError(this.path, cause);
    }
    if (bytesRead < target.length) throw this.#tooShort(positionBytes + target.length);
  }

  /** Waits for the reads under way: the system gives a closed file's descriptor to the next file. Idempotent. */
  async close(): Promise<void> {
    const descriptor = this.#descriptor;
    if (descriptor === null) return;
    this.#descriptor = null;
    if (this.#readsUnderWay > 0) {
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
      });
    }
    await closeFile(descriptor);
  }

  #open(): number {
    if (this.#descriptor === null) throw internalError(`read of ${this.path} after it was closed`);
    return this.#descriptor;
  }

  /** The file ended before the byte that its header promised. */
  #tooShort(expectedEndBytes: number): DyloraError {
    return new DyloraError("E_READ", `read ${this.path}: the file became shorter while it was read`, {
      note: `It ends before byte ${expectedEndBytes}. Another program may be writing it.`,
    });
  }
}

function openFile(path: string): Promise<number> {
  return new Promise((resolve, reject) => {
    open(path, "r", (error, descriptor) => (error === null ? resolve(descriptor) : reject(error)));
  });
}

function statFile(descriptor: number): Promise<Stats> {
  return new Promise((resolve, reject) => {
    fstat(descriptor, (error, stats) => (error === null ? resolve(stats) : reject(error)));
  });
}

function readFile(
  descriptor: number,
  target: Uint8Array,
  begin: number,
  length: number,
  positionBytes: number,
): Promise<number> {
  return new Promise((resolve, reject) => {
    read(descriptor, target, begin, length, positionBytes, (error, bytesRead) =>
      error === null ? resolve(bytesRead) : reject(error),
    );
  });
}

function closeFile(descriptor: number): Promise<void> {
  return new Promise((resolve, reject) => {
    close(descriptor, (error) => (error ? reject(error) : resolve()));
  });
}
