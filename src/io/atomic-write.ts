/**
 * Files that are either whole or not there.
 *
 * Bytes go to a temporary file beside the target, reach the disk (fsync), and only then take the target's name. A crash,
 * a full disk or SIGKILL at any moment leaves the target as it was.
 */
import { rmSync } from "node:fs";
import { type FileHandle, link, lstat, open, realpath, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { internalError } from "../errors.js";
import { existsError, systemErrorCode, writeError } from "./file-error.js";
import { syncFolder } from "./sync-folder.js";

export interface AtomicWriteOptions {
  /** Replace an existing target. Where false, an existing target is `E_EXISTS` and stays as it is. */
  overwrite: boolean;
}

/**
 * After so many bytes the disk is set to work on a file. Left alone, an operating system with much memory starts to write
 * only at the final fsync, and the disk idles while the bytes are computed.
 */
const WRITEBACK_BYTES = 16 << 20;

/** One at a time: it occupies one of the four threads that Node.js has for all file operations. */
let isWritebackUnderWay = false;

/** Temporary files of this process that are neither published nor discarded yet. */
const pendingTempPaths = new Set<string>();

/** `process.exit()` skips every `finally`; the temporary files must go all the same. */
function removePendingTempFiles(): void {
  for (const path of pendingTempPaths) rmSync(path, { force: true });
}

/**
 * One file on its way to its name: `create`, `write`…, `sync`, `publish`; `discard` at any point before `publish`.
 *
 * Every failure is `E_WRITE` (or `E_EXISTS`); the caller discards, which never fails.
 */
export class AtomicFile {
  /** The name the file will have: as given, or where it points if that is a symbolic link. */
  readonly path: string;
  readonly #tempPath: string;
  readonly #overwrite: boolean;
  #handle: FileHandle | null;
  #finished = false;
  #dirtyBytes = 0;
  #writeback: Promise<void> = Promise.resolve();

  private constructor(path: string, tempPath: string, handle: FileHandle, overwrite: boolean) {
    this.path = path;
    this.#tempPath = tempPath;
    this.#handle = handle;
    this.#overwrite = overwrite;
  }

  /**
   * Opens a temporary file beside the target.
   *
   * @throws {DyloraError} `E_EXISTS`, or `E_WRITE` where the folder is missing or not writable
   */
  static async create(targetPath: string, options: AtomicWriteOptions): Promise<AtomicFile> {
    try {
      const path = await resolveTarget(targetPath, options.overwrite);
      // A leading dot and a last part of .tmp keep model folders from listing it as a model.
      const tempPath = join(dirname(path), `.${basename(path)}.${uniqueSuffix()}.tmp`);
      const handle = await open(tempPath, "wx");
      if (pendingTempPaths.size === 0) process.once("exit", removePendingTempFiles);
      pendingTempPaths.add(tempPath);
      return new AtomicFile(path, tempPath, handle, options.overwrite);
    } catch (cause) {
      throw writeError(targetPath, cause);
    }
  }

  /** Writes all of `bytes` at `positionBytes`. Concurrent calls may not overlap. */
  async write(bytes: Uint8Array, positionBytes: number): Promise<void> {
    const handle = this.#openHandle();
    try {
      for (let done = 0; done < bytes.length; ) {
        const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, positionBytes + done);
        done += bytesWritten;
      }
    } catch (cause) {
      throw writeError(this.path, cause);
    }
    this.#dirtyBytes += bytes.length;
    if (this.#dirtyBytes >= WRITEBACK_BYTES) this.#startWriteback(handle);
  }

  /** Waits until the bytes are on the disk, and closes the file. A full disk may show only here. */
  async sync(): Promise<void> {
    const handle = this.#openHandle();
    try {
      await this.#writeback;
      await handle.sync();
      this.#handle = null;
      await handle.close();
    } catch (cause) {
      throw writeError(this.path, cause);
    }
  }

  /** Gives the file its name. After `sync`. */
  async publish(): Promise<void> {
    if (this.#handle !== null || this.#finished) throw internalError(`publish ${this.path} before sync`);
    try {
      if (this.#overwrite) await rename(this.#tempPath, this.path);
      else await renameWithoutReplacing(this.#tempPath, this.path);
      this.#finish();
      await syncFolder(dirname(this.path));
    } catch (cause) {
      throw writeError(this.path, cause);
    }
  }

  /** Removes the temporary file, if it is still one. Never fails: it runs while another error is on its way. */
  async discard(): Promise<void> {
    if (this.#finished) return;
    const handle = this.#handle;
    this.#handle = null;
    try {
      await this.#writeback;
      await handle?.close();
    } catch {
      // The file goes anyway; the error that matters is the one that led here.
    }
    try {
      await rm(this.#tempPath, { force: true });
    } catch {
      return; // Left in pendingTempPaths: removed when the process ends, if that is possible then.
    }
    this.#finish();
  }

  #startWriteback(handle: FileHandle): void {
    if (isWritebackUnderWay) return;
    isWritebackUnderWay = true;
    this.#dirtyBytes = 0;
    this.#writeback = handle
      .datasync()
      .catch(() => undefined) // `sync` meets the same error again, and reports it.
      .finally(() => {
        isWritebackUnderWay = false;
      });
  }

  #openHandle(): FileHandle {
    if (this.#handle === null) throw internalError(`write to ${this.path} after it was closed`);
    return this.#handle;
  }

  #finish(): void {
    this.#finished = true;
    pendingTempPaths.delete(this.#tempPath);
    if (pendingTempPaths.size === 0) process.removeListener("exit", removePendingTempFiles);
  }
}

/**
 * Writes a whole small file (settings, state, reports). An existing file is replaced unless `overwrite` is false.
 *
 * @throws {DyloraError} `E_WRITE`, `E_EXISTS`; the target is then untouched
 */
export async function writeFileAtomic(
  path: string,
  content: Uint8Array | string,
  options: Partial<AtomicWriteOptions> = {},
): Promise<void> {
  const file = await AtomicFile.create(path, { overwrite: options.overwrite ?? true });
  try {
    await file.write(typeof content === "string" ? Buffer.from(content, "utf8") : content, 0);
    await file.sync();
    await file.publish();
  } catch (error) {
    await file.discard();
    throw error;
  }
}

/** Distinct among processes and calls; `open` with `wx` refuses what is there all the same. */
function uniqueSuffix(): string {
  return `${process.pid}-${Math.floor(Math.random() * 2 ** 48).toString(36)}`;
}

/** Follows a symbolic link, so that replacing the file keeps the link; refuses what is no file. */
async function resolveTarget(targetPath: string, overwrite: boolean): Promise<string> {
  const stats = await lstat(targetPath).catch((error: unknown) => {
    if (systemErrorCode(error) === "ENOENT") return null;
    throw error;
  });
  if (stats === null) return targetPath;
  if (!overwrite) throw existsError(targetPath);
  const path = stats.isSymbolicLink() ? await realpath(targetPath) : targetPath;
  if ((await lstat(path)).isDirectory()) throw Object.assign(new Error("is a folder"), { code: "EISDIR" });
  return path;
}

/** `link` refuses an existing target in one step; `rename` would replace a file that appeared meanwhile. */
async function renameWithoutReplacing(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === "EEXIST") throw existsError(to);
    if (code === undefined || !NO_HARD_LINKS.has(code)) throw error;
    await resolveTarget(to, false);
    return rename(from, to);
  }
  // The target is whole by now: a second name that cannot be removed is no failure of the write.
  await rm(from, { force: true }).catch(() => undefined);
}

/** What file systems without hard links (FAT, some network shares) answer. */
const NO_HARD_LINKS: ReadonlySet<string> = new Set([
  "EPERM",
  "ENOTSUP",
  "EOPNOTSUPP",
  "ENOSYS",
  "EMLINK",
  "EXDEV",
]);
