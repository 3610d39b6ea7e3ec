/**
 * The check before training: can every image be decoded?
 */
import { availableParallelism } from "node:os";
import pLimit from "p-limit";
import sharp from "sharp";
import { DyloraError } from "../errors.js";
import type { Dataset, DatasetItem } from "./dataset.js";
import { readImageFile, SHARP_INPUT, undecodable } from "./image.js";
import { countImages } from "./wording.js";

export interface ProbeOptions {
  /**
   * Also decode the pixels (default true), at reduced size where the format allows. A header says nothing about a
   * file that was cut off or damaged later on, and such a file would stop the run in the middle. `false` reads
   * headers only.
   */
  decodePixels?: boolean;
  /** Images at once; default: the number of CPU cores. */
  workers?: number;
  onProgress?: (done: number, total: number) => void;
  signal?: AbortSignal;
}

export interface ProbedImage {
  readonly item: DatasetItem;
  /** Size in pixels, upright (EXIF orientation applied). */
  readonly width: number;
  readonly height: number;
}

export interface UnreadableImage {
  readonly item: DatasetItem;
  /** `E_NOT_FOUND`, `E_READ` or `E_FORMAT`; the message names the file and says why. */
  readonly error: DyloraError;
}

export interface ProbeResult {
  readonly readable: readonly ProbedImage[];
  readonly unreadable: readonly UnreadableImage[];
}

/** Side of the small picture that pixels are decoded to: small enough for every decoder's reduced-size shortcut. */
const PROBE_SIDE = 8;

/** Probes every image once; both lists of the result are in the order of `items`. */
export async function probeImages(
  items: readonly DatasetItem[],
  options: ProbeOptions = {},
): Promise<ProbeResult> {
  const { decodePixels = true, workers = availableParallelism(), onProgress, signal } = options;
  const limit = pLimit(Math.max(workers, 1));
  let done = 0;
  const results = await Promise.all(
    items.map((item) =>
      limit(async () => {
        signal?.throwIfAborted();
        const result = await probeImage(item, decodePixels);
        onProgress?.(++done, items.length);
        return result;
      }),
    ),
  );
  return {
    readable: results.filter((result) => "width" in result),
    unreadable: results.filter((result) => "error" in result),
  };
}

/**
 * The dataset without its unreadable images, and with a warning that counts and names them.
 *
 * @throws {DyloraError} `E_DATA` if none is left
 */
export function dropUnreadable(dataset: Dataset, { unreadable }: ProbeResult): Dataset {
  if (unreadable.length === 0) return dataset;
  const bad = new Set(unreadable.map(({ item }) => item));
  const items = dataset.items.filter((item) => !bad.has(item));
  const reasons = unreadable.slice(0, 5).map(({ error }) => error.message);
  if (unreadable.length > reasons.length) reasons.push(`and ${unreadable.length - reasons.length} more`);
  const listing = reasons.join("\n  ");
  if (items.length === 0) {
    throw new DyloraError("E_DATA", `data: none of ${countImages(bad.size)} can be read:\n  ${listing}`, {
      note: "Nothing was written.",
      cause: unreadable[0]?.error,
    });
  }
  const warning = `skipped ${countImages(bad.size)} that cannot be read, ${items.length} left:\n  ${listing}`;
  return { items, warnings: [...dataset.warnings, warning] };
}

async function probeImage(item: DatasetItem, decodePixels: boolean): Promise<ProbedImage | UnreadableImage> {
  try {
    const input = decodePixels ? await readImageFile(item.imagePath) : item.imagePath;
    const { autoOrient } = await sharp(input, SHARP_INPUT).metadata();
    if (decodePixels) {
      // Not the `nearest` kernel: it would never look at the rows below its last sample, where cut-off files end.
      await sharp(input, SHARP_INPUT).resize(PROBE_SIDE, PROBE_SIDE, { fit: "fill" }).raw().toBuffer();
    }
    return { item, width: autoOrient.width, height: autoOrient.height };
  } catch (error) {
    return { item, error: error instanceof DyloraError ? error : undecodable(item.imagePath, error) };
  }
}
