/**
 * What the rest of the toolkit knows about training data: a flat list of captioned images.
 */
import type { Frame } from "./buckets.js";

/** One image. An image that its folder repeats ten times is still one item, with `repeats: 10`. */
export interface DatasetItem {
  /** `<subset>/<file name>`: unique within the dataset and the same wherever the data folder lies. */
  readonly key: string;
  readonly imagePath: string;
  /**
   * First line of the caption file; the folder's class tokens where there is none; "" where there are none either.
   */
  readonly caption: string;
  /** How often one epoch shows the image; at least 1. */
  readonly repeats: number;
  /** Name of the sub-folder that the image lies in; "" for a flat folder. */
  readonly subset: string;
  /** The bucket that the image lies in, and its way there; absent where all images are trained at one size. */
  readonly frame?: Frame;
  /** With a frame: how far the bucket's aspect ratio (width / height) is from the image's. */
  readonly aspectError?: number;
}

export interface Dataset {
  /** Ordered by subset, then by file name, both by UTF-16 code unit: the same on every machine. */
  readonly items: readonly DatasetItem[];
  /** What was skipped or looks unintended, as sentences for the user. */
  readonly warnings: readonly string[];
}

/** Samples in one epoch: every image counted as often as it is repeated. */
export function epochLength(items: readonly DatasetItem[]): number {
  return items.reduce((total, item) => total + item.repeats, 0);
}
