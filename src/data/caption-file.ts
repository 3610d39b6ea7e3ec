/**
 * Caption files: `photo.txt` or `photo.caption` beside `photo.png`, first line only, as in sd-scripts.
 */
import { readFile } from "node:fs/promises";
import { extname, join } from "node:path";
import { DyloraError } from "../errors.js";
import { describeSystemError } from "../io/file-error.js";
import type { FolderListing } from "./folder-listing.js";

/** Both are always looked for; `--caption_extension` only says which one wins. */
const CAPTION_EXTENSIONS = [".txt", ".caption"] as const;

/** Extensions in the order in which they are looked for. Takes `txt` for `.txt`. */
export function captionExtensions(preferred = ".caption"): string[] {
  const first = preferred.startsWith(".") ? preferred : `.${preferred}`;
  return [first, ...CAPTION_EXTENSIONS.filter((extension) => extension !== first)];
}

/**
 * Caption of an image, or null where it has no caption file. An empty file gives "".
 *
 * @throws {DyloraError} `E_DATA` if the file cannot be read, or is neither UTF-8 nor UTF-16 LE with a byte order mark
 */
export async function readCaption(
  folder: FolderListing,
  imageName: string,
  extensions: readonly string[],
): Promise<string | null> {
  const stem = imageName.slice(0, imageName.length - extname(imageName).length);
  for (const extension of extensions) {
    const exactName = `${stem}${extension}`;
    const name = folder.files.has(exactName)
      ? exactName
      : folder.filesByLowerName.get(exactName.toLowerCase());
    if (name === undefined) continue;
    return firstLine(await readText(join(folder.path, name)));
  }
  return null;
}

async function readText(path: string): Promise<string> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    throw new DyloraError(
      "E_DATA",
      `data: the caption file ${path} cannot be read: ${describeSystemError(cause)}`,
      {
        cause,
      },
    );
  }
  // Windows Notepad's "Unicode" is UTF-16 LE with a byte order mark.
  const encoding = bytes[0] === 0xff && bytes[1] === 0xfe ? "utf-16le" : "utf-8";
  try {
    // Without `ignoreBOM` the decoder drops a byte order mark.
    return new TextDecoder(encoding, { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new DyloraError("E_DATA", `data: the caption file ${path} is not UTF-8 text`, {
      note: "Save it as UTF-8. Nothing was written.",
      cause,
    });
  }
}

function firstLine(text: string): string {
  return (text.split(/\r\n|\n|\r/u, 1)[0] ?? "").trim();
}
