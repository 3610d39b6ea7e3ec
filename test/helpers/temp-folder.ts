/** Real folders for tests, removed when the test file ends. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll } from "vitest";

const created: string[] = [];

afterAll(async () => {
  for (const path of created.splice(0)) await rm(path, { recursive: true, force: true });
});

/**
 * A new folder with these files (path below the folder -> content; a path that ends with "/" is an empty folder).
 *
 * @returns its absolute path
 */
export async function tempFolder(files: Readonly<Record<string, string | Uint8Array>> = {}): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), "dylora-test-"));
  created.push(root);
  for (const [name, content] of Object.entries(files)) {
    const path = join(root, name);
    if (name.endsWith("/")) {
      await mkdir(path, { recursive: true });
      continue;
    }
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, content);
  }
  return root;
}
