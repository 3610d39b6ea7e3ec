/** Positional reads. */
import type { FileHandle } from "node:fs/promises";
import { DyloraError } from "../errors.js";

/** Node.js refuses to read more than 2 GiB - 1 at once. */
const MAX_READ_BYTES = 2 ** 30;

/**
 * Fills `target` from `positionBytes` on.
 *
 * @throws {DyloraError} `E_READ` where the file ends before `target` is full
 */
export async function readFully(
  handle: FileHandle,
  target: Uint8Array,
  positionBytes: number,
  path: string,
): Promise<void> {
  for (let done = 0; done < target.length; ) {
    const length = Math.min(target.length - done, MAX_READ_BYTES);
    const { bytesRead } = await handle.read(target, done, length, positionBytes + done);
    if (bytesRead === 0) throw shortRead(path, positionBytes + target.length);
    done += bytesRead;
  }
}

/** The file ended before the byte that its header promised. */
export function shortRead(path: string, expectedEndBytes: number): DyloraError {
  return new DyloraError("E_READ", `read ${path}: the file became shorter while it was read`, {
    note: `It ends before byte ${expectedEndBytes}. Another program may be writing it.`,
  });
}
