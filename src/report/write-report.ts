/** Pages on the disk. */

import { readFile } from "node:fs/promises";
import { DyloraError } from "../errors.js";
import { readError, systemErrorCode, writeFileAtomic } from "../io/index.js";

/** Stands in the head of every page that dylora writes. */
const MARK = '<meta name="generator" content="dylora ';
/** Where it stands. */
const HEAD_CHARACTERS = 4096;

/**
 * Writes a page, whole or not at all. A page that dylora wrote is replaced; anything else of that name is left alone.
 *
 * @throws {DyloraError} `E_EXISTS`, `E_WRITE`
 */
export async function writeReport(path: string, page: string): Promise<void> {
  const existing = await readFile(path, "utf8").catch((cause: unknown) => {
    if (systemErrorCode(cause) === "ENOENT") return null;
    throw readError(path, cause);
  });
  if (existing !== null && !existing.slice(0, HEAD_CHARACTERS).includes(MARK)) {
    throw new DyloraError(
      "E_EXISTS",
      `write ${path}: a file of that name is there, and no report of dylora`,
      {
        note: "It was not touched. Choose another name.",
      },
    );
  }
  await writeFileAtomic(path, page);
}
