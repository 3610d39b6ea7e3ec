/**
 * Reads a data folder in sd-scripts' form:
 *
 *     data/10_sks dog/a.png  a.txt  b.jpg  b.caption
 *     data/1_dog/…
 *
 * `10` is the number of times that an epoch shows each image of the folder, `sks dog` the caption of its images that
 * have no caption file.
 */
import { basename, join, resolve } from "node:path";
import pLimit from "p-limit";
import { captionExtensions, readCaption } from "./caption-file.js";
import type { Dataset, DatasetItem } from "./dataset.js";
import { type FolderListing, listFolder } from "./folder-listing.js";
import { parseFolderName, suggestFolderName } from "./folder-name.js";
import { impossibleRepeats, noImages, wrongFolderForm } from "./scan-errors.js";
import { countImages, listNames } from "./wording.js";

export interface ScanOptions {
  /** Extension of the caption files that wins where an image has several; default `.caption`, as in sd-scripts. */
  captionExtension?: string;
  /** Option that the folder was given with, for the messages; default `--train_data_dir`. */
  optionName?: string;
}

/** Reads at once while captions are collected: small files, so the limit only bounds open file handles. */
const CAPTION_READERS = 16;

/** A repeat count above this is a date or an id (`20240105_holiday`), not a repeat count. */
const MAX_REPEATS = 100_000;

interface Subset {
  listing: FolderListing;
  name: string;
  repeats: number;
  classTokens: string;
}

/**
 * Scans a training data folder: the parent of `<repeats>_<class tokens>` folders.
 *
 * Sub-folders without a repeat count, with a repeat count of 0 or without images are skipped with a warning, and so
 * are images that lie directly in `dir`; that holds as long as another sub-folder has images to train on.
 *
 * @throws {DyloraError} `E_DATA` if `dir` is missing, holds no image, or holds images in a form that is not
 *   understood: the message then names what was found, the note the exact renaming that makes it work
 */
export async function scanTrainDataDir(dir: string, options: ScanOptions = {}): Promise<Dataset> {
  const optionName = options.optionName ?? "--train_data_dir";
  const root = await listFolder(dir);
  const warnings: string[] = [];
  const subsets: Subset[] = [];
  const unnamed: FolderListing[] = [];
  for (const name of root.folders) {
    const listing = await listFolder(join(dir, name));
    const form = parseFolderName(name);
    if (form === null) {
      unnamed.push(listing);
    } else if (form.repeats > MAX_REPEATS) {
      throw impossibleRepeats(dir, name, form.repeats);
    } else if (form.repeats === 0) {
      warnings.push(`skipped folder "${name}": its repeat count is 0`);
    } else {
      subsets.push({ listing, name, ...form });
    }
  }

  if (!subsets.some(({ listing }) => listing.images.length > 0)) {
    const ofForm = subsets.map(({ listing }) => listing);
    throw (await wrongFolderForm(optionName, root, unnamed)) ?? noImages(root, ofForm, warnings);
  }
  for (const listing of unnamed) {
    const name = basename(listing.path);
    warnings.push(
      `skipped folder "${name}" (${countImages(listing.images.length)}): its name has no repeat count; ` +
        `rename it to "${suggestFolderName(name)}" to use it`,
    );
  }
  if (root.images.length > 0) {
    warnings.push(
      `skipped ${countImages(root.images.length)} directly in ${dir}: only images inside "<repeats>_<name>" folders are used`,
    );
  }
  const items: DatasetItem[] = [];
  for (const subset of subsets) items.push(...(await readSubset(subset, options.captionExtension, warnings)));
  return { items, warnings };
}

/**
 * Scans data that is not trained on (`--validation_dir`, `bench --data`): either the training form, or a flat folder
 * of images with caption files. A flat folder may itself be a `<repeats>_<class tokens>` folder, whose class tokens
 * then count. Repeats are kept as they stand in the names; an evaluation shows every image once.
 *
 * @throws {DyloraError} `E_DATA` as `scanTrainDataDir`
 */
export async function scanEvaluationDir(dir: string, options: ScanOptions = {}): Promise<Dataset> {
  const root = await listFolder(dir);
  const hasSubsets = root.folders.some((name) => (parseFolderName(name)?.repeats ?? 0) > 0);
  if (root.images.length === 0 || hasSubsets) return scanTrainDataDir(dir, options);
  const warnings: string[] = [];
  const classTokens = parseFolderName(basename(resolve(dir)))?.classTokens ?? "";
  const items = await readSubset(
    { listing: root, name: "", repeats: 1, classTokens },
    options.captionExtension,
    warnings,
  );
  return { items, warnings };
}

async function readSubset(
  subset: Subset,
  captionExtension: string | undefined,
  warnings: string[],
): Promise<DatasetItem[]> {
  const { listing, name, repeats, classTokens } = subset;
  const label = name === "" ? listing.path : `folder "${name}"`;
  const extensions = captionExtensions(captionExtension);
  const limit = pLimit(CAPTION_READERS);
  const captions = await Promise.all(
    listing.images.map((image) => limit(() => readCaption(listing, image, extensions))),
  );
  const missing = listing.images.filter((_, index) => captions[index] === null);
  const empty = listing.images.filter((_, index) => captions[index] === "");
  const substitute = classTokens === "" ? "an empty caption" : `the class tokens "${classTokens}"`;
  // A folder without any caption file is a form of its own: class tokens only. It is worth a word only without those.
  if (missing.length > 0 && (missing.length < listing.images.length || classTokens === "")) {
    warnings.push(
      `${label}: no caption file for ${missing.length} of ${countImages(listing.images.length)} ` +
        `(${listNames(missing, 3)}): using ${substitute}`,
    );
  }
  if (empty.length > 0) {
    warnings.push(
      `${label}: empty caption file for ${countImages(empty.length)} (${listNames(empty, 3)}): using ${substitute}`,
    );
  }
  if (listing.foreignImages.length > 0) {
    warnings.push(
      `${label}: skipped ${countImages(listing.foreignImages.length)} of a format that is not taken (${listNames(listing.foreignImages, 3)})`,
    );
  }
  if (listing.images.length === 0) warnings.push(`skipped ${label}: it holds no images`);
  return listing.images.map((image, index) => ({
    key: `${name}/${image}`,
    imagePath: join(listing.path, image),
    caption: captions[index] || classTokens,
    repeats,
    subset: name,
  }));
}
