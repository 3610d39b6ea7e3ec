/**
 * Folders that are either whole or not there: filled under a temporary name beside the target, synced, renamed.
 */
import { randomBytes } from "node:crypto";
import { constants, rmSync } from "node:fs";
import { chmod, copyFile, lstat, mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { internalError } from "../errors.js";
import { existsError, systemErrorCode, writeError } from "./file-error.js";
import { syncFolder } from "./sync-folder.js";

/** Temporary folders of this process: `process.exit()` skips every `finally`. */
const pendingFolders = new Set<string>();

function removePendingFolders(): void {
  for (const path of pendingFolders) rmSync(path, { recursive: true, force: true });
}

/** One folder on its way to its name: `create`, fill `tempPath`, `publish`; `discard` on any error. */
export class AtomicFolder {
  /** The name the folder will have. */
  readonly path: string;
  /** Where to put its files. They must be on the disk (fsync) by `publish`. */
  readonly tempPath: string;
  readonly #overwrite: boolean;
  #finished = false;

  private constructor(path: string, tempPath: string, overwrite: boolean) {
    this.path = path;
    this.tempPath = tempPath;
    this.#overwrite = overwrite;
  }

  /** @throws {DyloraError} `E_EXISTS`, `E_WRITE` */
  static async create(targetPath: string, options: { readonly overwrite: boolean }): Promise<AtomicFolder> {
    const path = resolve(targetPath);
    if (!options.overwrite && (await isThere(path))) throw existsError(targetPath);
    const tempPath = siblingName(path);
    try {
      await mkdir(tempPath);
    } catch (cause) {
      throw writeError(targetPath, cause);
    }
    if (pendingFolders.size === 0) process.once("exit", removePendingFolders);
    pendingFolders.add(tempPath);
    return new AtomicFolder(path, tempPath, options.overwrite);
  }

  /**
   * Gives the folder its name.
   *
   * No system call swaps two folders in one step: where a folder is replaced, it first steps aside under a hidden name, and is
   * removed at the end.
   */
  async publish(): Promise<void> {
    if (this.#finished) throw internalError(`publish ${this.path} twice`);
    let oldPath: string | null = null;
    try {
      await syncFolders(this.tempPath);
      if (await isThere(this.path)) {
        if (!this.#overwrite) throw existsError(this.path);
        oldPath = siblingName(this.path);
        await rename(this.path, oldPath);
      }
      try {
        await rename(this.tempPath, this.path);
      } catch (error) {
        if (oldPath !== null) await rename(oldPath, this.path);
        throw error;
      }
      this.#finish();
      await syncFolder(dirname(this.path));
    } catch (cause) {
      throw writeError(this.path, cause);
    }
    // The new folder is in place: an old one that cannot be removed is no failure of the write.
    if (oldPath !== null) await rm(oldPath, { recursive: true, force: true }).catch(() => undefined);
  }

  /** Never fails: it runs while another error is on its way. */
  async discard(): Promise<void> {
    if (this.#finished) return;
    await rm(this.tempPath, { recursive: true, force: true }).catch(() => undefined);
    this.#finish();
  }

  #finish(): void {
    this.#finished = true;
    pendingFolders.delete(this.tempPath);
    if (pendingFolders.size === 0) process.removeListener("exit", removePendingFolders);
  }
}

/** Copies a file (a symbolic link as what it points to) and waits until it is on the disk. */
export async function copyFileSynced(from: string, to: string): Promise<void> {
  try {
    // Where the file system can share blocks, gigabytes are copied in no time.
    await copyFile(from, to, constants.COPYFILE_FICLONE);
    // The copy has the permissions of its source, which may be read-only.
    await chmod(to, (await stat(to)).mode | constants.S_IWUSR);
    const file = await open(to, "r+");
    try {
      await file.sync();
    } finally {
      await file.close();
    }
  } catch (cause) {
    throw writeError(to, cause);
  }
}

function siblingName(path: string): string {
  return join(dirname(path), `.${basename(path)}.${randomBytes(6).toString("hex")}.tmp`);
}

async function isThere(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return false;
    throw writeError(path, error);
  }
}

async function syncFolders(path: string): Promise<void> {
  for (const entry of await readdir(path, { withFileTypes: true })) {
    if (entry.isDirectory()) await syncFolders(join(path, entry.name));
  }
  await syncFolder(path);
}
