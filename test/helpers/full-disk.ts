/** A folder on a tiny disk of its own (tmpfs), for tests of what happens when a disk is full. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface TinyDisk {
  readonly path: string;
  remove(): void;
}

/** Null where this user may not mount (not root, not Linux, a container without the right). */
export function mountTinyDisk(sizeKib: number): TinyDisk | null {
  const path = mkdtempSync(join(tmpdir(), "dylora-tiny-disk-"));
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${sizeKib}k`, "tmpfs", path], { stdio: "ignore" });
  } catch {
    rmSync(path, { recursive: true });
    return null;
  }
  return {
    path,
    remove() {
      execFileSync("umount", [path]);
      rmSync(path, { recursive: true });
    },
  };
}
