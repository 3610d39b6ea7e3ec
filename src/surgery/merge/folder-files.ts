/** Which files of a diffusers folder go into a merged copy of it. */
import { readdir, readFile, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import { DyloraError } from "../../errors.js";
import { readError } from "../../io/index.js";

/** Weights in any format. */
const WEIGHT_FILE = /\.(safetensors|bin|ckpt|pt|pth|pkl|msgpack|h5|onnx|onnx_data|pb|gguf)$/i;
const SHARD_INDEX = /\.index(\.[\w-]+)?\.json$/i;

/** Folders inside folders: diffusers needs one level. */
const MAX_DEPTH = 8;

export interface FolderFiles {
  /** Paths below the folder, with the real path of what lies there. */
  readonly copied: readonly {
    readonly path: string;
    readonly realPath: string;
    readonly sizeBytes: number;
  }[];
  /** Files that the merge changes: paths below the folder, and their real paths. */
  readonly changed: readonly { readonly path: string; readonly realPath: string }[];
  /** Not taken over, because they would hold the model without the adapters. */
  readonly leftOut: readonly string[];
}

/**
 * Sorts the files of a diffusers folder.
 *
 * A folder often holds its weights several times (float16, pickled, one big file beside the folders). A loader would pick
 * one of those at its own discretion, so in a merged folder only the weights that were merged may be left: other versions of
 * a changed part, and weights outside of all parts, stay behind. Hidden files (caches, .git) do too, without a word.
 *
 * @param usedFiles - real paths of all weight files that the model was read from
 * @param changedFiles - those of them that the merge changes
 */
export async function sortFolderFiles(
  root: string,
  usedFiles: ReadonlySet<string>,
  changedFiles: ReadonlySet<string>,
): Promise<FolderFiles> {
  const files = await listFiles(root);
  const changedFolders = new Set(
    files.filter(({ realPath }) => changedFiles.has(realPath)).map(({ path }) => folderOf(path)),
  );
  const copied: FolderFiles["copied"][number][] = [];
  const changed: FolderFiles["changed"][number][] = [];
  const leftOut: string[] = [];
  for (const file of files) {
    const { path, realPath } = file;
    const folder = folderOf(path);
    const isDuplicate =
      (folder === "" || changedFolders.has(folder)) &&
      !usedFiles.has(realPath) &&
      (WEIGHT_FILE.test(path) || (SHARD_INDEX.test(path) && !(await indexesOnly(root, path, usedFiles))));
    if (changedFiles.has(realPath)) changed.push({ path, realPath });
    else if (isDuplicate) leftOut.push(path);
    else copied.push(file);
  }
  return { copied, changed, leftOut };
}

async function listFiles(root: string): Promise<FolderFiles["copied"][number][]> {
  const files: FolderFiles["copied"][number][] = [];
  const visit = async (folder: string, depth: number): Promise<void> => {
    if (depth > MAX_DEPTH) {
      throw new DyloraError("E_INCOMPATIBLE", `merge: ${join(root, folder)} is nested too deep for a model`, {
        note: "Nothing was written. Symbolic links may go in circles.",
      });
    }
    for (const name of (await readdir(join(root, folder))).sort()) {
      if (name.startsWith(".")) continue;
      const path = folder === "" ? name : `${folder}/${name}`;
      const realPath = await realpath(join(root, path));
      const stats = await stat(realPath);
      if (stats.isDirectory()) await visit(path, depth + 1);
      else if (stats.isFile()) files.push({ path, realPath, sizeBytes: stats.size });
    }
  };
  try {
    await visit("", 0);
  } catch (cause) {
    throw readError(root, cause);
  }
  return files;
}

/** Whether every shard that an index names is a file that is in use. */
async function indexesOnly(root: string, path: string, usedFiles: ReadonlySet<string>): Promise<boolean> {
  try {
    const index: unknown = JSON.parse(await readFile(join(root, path), "utf8"));
    const { weight_map: map } = index as { weight_map?: Record<string, unknown> };
    if (typeof map !== "object" || map === null) return false;
    for (const shard of new Set(Object.values(map))) {
      if (!usedFiles.has(await realpath(join(root, folderOf(path), String(shard))))) return false;
    }
    return true;
  } catch {
    return false;
  }
}

function folderOf(path: string): string {
  const slash = path.lastIndexOf("/");
  return slash < 0 ? "" : path.slice(0, slash);
}
