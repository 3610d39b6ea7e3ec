/** What lies at a path. */
import type { Stats } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { readError, systemErrorCode } from "../../io/file-error.js";

export async function isFolder(path: string): Promise<boolean> {
  return (await statOrNull(path))?.isDirectory() ?? false;
}

export async function exists(path: string): Promise<boolean> {
  return (await statOrNull(path)) !== null;
}

/** Names of what is in a folder. @throws {DyloraError} `E_NOT_FOUND`, `E_READ` */
export async function listFolder(path: string): Promise<string[]> {
  try {
    return await readdir(path);
  } catch (cause) {
    throw readError(path, cause);
  }
}

/** null: nothing there. @throws {DyloraError} `E_READ` if that cannot be found out */
async function statOrNull(path: string): Promise<Stats | null> {
  try {
    return await stat(path);
  } catch (cause) {
    if (systemErrorCode(cause) === "ENOENT" || systemErrorCode(cause) === "ENOTDIR") return null;
    throw readError(path, cause);
  }
}
