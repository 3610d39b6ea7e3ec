/** Durable names. */
import { open } from "node:fs/promises";

/** Makes the names in a folder themselves durable, where the platform can. */
export async function syncFolder(path: string): Promise<void> {
  try {
    const folder = await open(path, "r");
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  } catch {
    // Windows and some network shares cannot open or sync a folder, and need not.
  }
}
