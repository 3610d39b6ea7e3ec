/**
 * One folder of the data, sorted into images, sub-folders and the rest.
 */
import { readdir, stat } from "node:fs/promises";
import { extname, join } from "node:path";
import { DyloraError } from "../errors.js";
import { describeSystemError, systemErrorCode } from "../io/file-error.js";

/** Extensions of the images that are taken, lower case. All of them are formats that sharp's npm build decodes. */
export const IMAGE_EXTENSIONS: readonly string[] = [".png", ".jpg", ".jpeg", ".webp", ".avif"];

/** Images that users do put into data folders but that are not taken; they are named in a warning. */
const OTHER_IMAGE_EXTENSIONS: ReadonlySet<string> = new Set([
  ".bmp",
  ".gif",
  ".heic",
  ".heif",
  ".jfif",
  ".jp2",
  ".jxl",
  ".psd",
  ".svg",
  ".tga",
  ".tif",
  ".tiff",
]);

export interface FolderListing {
  readonly path: string;
  /** File names, sorted by code unit (as are the next two). */
  readonly images: readonly string[];
  readonly folders: readonly string[];
  /** Files that are images by their extension, in a format that is not taken. */
  readonly foreignImages: readonly string[];
  /** Every file, images included. */
  readonly files: ReadonlySet<string>;
  /** Lower-cased name -> real name. Finds `a.TXT` beside `a.png` on case-sensitive systems. */
  readonly filesByLowerName: ReadonlyMap<string, string>;
}

/**
 * Lists a folder. Names that start with a dot are left out: `.git`, `.dylora-cache`, macOS' `._photo.jpg`.
 *
 * @throws {DyloraError} `E_DATA` if the folder is missing, is no folder or cannot be read
 */
export async function listFolder(path: string): Promise<FolderListing> {
  let entries: Awaited<ReturnType<typeof readDirectory>>;
  try {
    entries = await readDirectory(path);
  } catch (cause) {
    const code = systemErrorCode(cause);
    const problem =
      code === "ENOENT"
        ? "does not exist"
        : code === "ENOTDIR"
          ? "is not a folder"
          : `cannot be read: ${describeSystemError(cause)}`;
    throw new DyloraError("E_DATA", `data: ${path} ${problem}`, {
      note: "Nothing was read or written. Check the path.",
      cause,
    });
  }
  const images: string[] = [];
  const folders: string[] = [];
  const foreignImages: string[] = [];
  const files = new Set<string>();
  const filesByLowerName = new Map<string, string>();
  // Code units, not `localeCompare`: the order must not depend on the machine's locale.
  for (const { name, isFolder } of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    if (name.startsWith(".")) continue;
    if (isFolder) {
      folders.push(name);
      continue;
    }
    files.add(name);
    filesByLowerName.set(name.toLowerCase(), name);
    const extension = extname(name).toLowerCase();
    if (IMAGE_EXTENSIONS.includes(extension)) images.push(name);
    else if (OTHER_IMAGE_EXTENSIONS.has(extension)) foreignImages.push(name);
  }
  return { path, images, folders, foreignImages, files, filesByLowerName };
}

async function readDirectory(path: string): Promise<{ name: string; isFolder: boolean }[]> {
  const entries = await readdir(path, { withFileTypes: true });
  return Promise.all(
    entries.map(async (entry) => ({
      name: entry.name,
      isFolder: entry.isSymbolicLink() ? await isFolderLink(join(path, entry.name)) : entry.isDirectory(),
    })),
  );
}

/** A broken link counts as a file: reading it later names it in the error. */
async function isFolderLink(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch {
    return false;
  }
}
