/**
 * What to say when a data folder is not in sd-scripts' form. "No data found" is the oldest complaint of that tool's
 * users; the cause is nearly always the folder's name or level, so these messages show what was found and what to
 * rename.
 */
import { basename, dirname, join, resolve } from "node:path";
import { DyloraError } from "../errors.js";
import { type FolderListing, IMAGE_EXTENSIONS } from "./folder-listing.js";
import { parseFolderName, suggestFolderName } from "./folder-name.js";
import { countImages, listNames } from "./wording.js";

/** Names shown of each kind. */
const SHOWN = 5;

const FORM = '"<repeats>_<class tokens>", for example "10_sks dog"';
const MEANING = "The number is how often one epoch shows each image of the folder; 1 is a good start.";
const UNTOUCHED = "Nothing was changed.";

/** The error for images that are there but at the wrong level or under the wrong name; null where there are none. */
export async function wrongFolderForm(
  optionName: string,
  root: FolderListing,
  unnamed: readonly FolderListing[],
): Promise<DyloraError | null> {
  const withImages = unnamed.filter(({ images }) => images.length > 0);
  if (root.images.length > 0) return imagesAtTop(optionName, root, withImages);
  if (withImages.length > 0) return foldersWithoutRepeats(root, withImages);
  for (const folder of unnamed) {
    const inner = folder.folders.filter((name) => (parseFolderName(name)?.repeats ?? 0) > 0);
    if (inner.length > 0) return oneLevelTooHigh(optionName, root, folder, inner);
  }
  return null;
}

function imagesAtTop(
  optionName: string,
  root: FolderListing,
  withImages: readonly FolderListing[],
): DyloraError {
  const path = resolve(root.path);
  const found = `found ${countImages(root.images.length)} directly in it (${list(root.images)})`;
  const form = parseFolderName(basename(path));
  if (form !== null && form.repeats > 0) {
    return new DyloraError(
      "E_DATA",
      `data: ${root.path} is itself a "<repeats>_<class tokens>" folder; expected its parent, ${found}`,
      { note: `Use ${optionName} ${JSON.stringify(dirname(path))}. ${UNTOUCHED}` },
    );
  }
  const target = join(root.path, suggestFolderName(basename(path)));
  const renames = withImages.length === 0 ? "" : ` ${renameNote(root, withImages)}`;
  return new DyloraError("E_DATA", `data: ${root.path} has no sub-folder named ${FORM}; ${found}`, {
    note: `Move the images and their caption files into a new folder ${JSON.stringify(target)}.${renames} ${MEANING} ${UNTOUCHED}`,
  });
}

function foldersWithoutRepeats(root: FolderListing, withImages: readonly FolderListing[]): DyloraError {
  const found = withImages.map(
    (folder) => `"${basename(folder.path)}" (${countImages(folder.images.length)})`,
  );
  return new DyloraError(
    "E_DATA",
    `data: no sub-folder of ${root.path} is named ${FORM}; found ${list(found)}`,
    { note: `${renameNote(root, withImages)} ${MEANING} ${UNTOUCHED}` },
  );
}

function renameNote(root: FolderListing, folders: readonly FolderListing[]): string {
  const renames = folders.map((folder) => {
    const name = basename(folder.path);
    return `${JSON.stringify(join(root.path, name))} to ${JSON.stringify(join(root.path, suggestFolderName(name)))}`;
  });
  return `Rename ${list(renames)}.`;
}

function oneLevelTooHigh(
  optionName: string,
  root: FolderListing,
  folder: FolderListing,
  inner: readonly string[],
): DyloraError {
  const names = inner.map((name) => `"${basename(folder.path)}/${name}"`);
  return new DyloraError(
    "E_DATA",
    `data: the "<repeats>_<class tokens>" folders lie one level below ${root.path}: found ${list(names)}`,
    { note: `Use ${optionName} ${JSON.stringify(folder.path)}. ${UNTOUCHED}` },
  );
}

/** The error for a folder whose sub-folders have the right form but hold no image, or that is empty. */
export function noImages(
  root: FolderListing,
  subsets: readonly FolderListing[],
  warnings: readonly string[],
): DyloraError {
  const foreign = [root, ...subsets].flatMap(({ foreignImages }) => foreignImages);
  const nested = subsets.filter(({ folders }) => folders.length > 0);
  const found: string[] = [];
  if (foreign.length > 0)
    found.push(`${countImages(foreign.length)} of a format that is not taken (${list(foreign)})`);
  if (nested.length > 0) {
    found.push(
      `folders inside ${list(nested.map(({ path }) => `"${basename(path)}"`))}, whose content is not searched`,
    );
  }
  if (found.length === 0) found.push(...warnings);
  if (found.length === 0) {
    const names = root.folders.map((name) => `"${name}"`);
    found.push(names.length > 0 ? `only empty folders (${list(names)})` : "an empty folder");
  }
  return new DyloraError("E_DATA", `data: ${root.path} holds no images to use; found ${found.join("; ")}`, {
    note: `Images must be ${IMAGE_EXTENSIONS.join(", ")} files in sub-folders named ${FORM}. ${UNTOUCHED}`,
  });
}

/** The error for `20240105_holiday`. */
export function impossibleRepeats(dir: string, name: string, repeats: number): DyloraError {
  const path = join(dir, name);
  return new DyloraError(
    "E_DATA",
    `data: folder "${name}" would show each of its images ${repeats} times in every epoch`,
    {
      note:
        `The number before the first "_" is the repeat count. If it is a date or an id, rename ` +
        `${JSON.stringify(path)} to ${JSON.stringify(join(dir, `1_${name}`))}. ${UNTOUCHED}`,
    },
  );
}

function list(names: readonly string[]): string {
  return listNames(names, SHOWN);
}
