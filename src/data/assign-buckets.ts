/**
 * Sorts a data set into buckets.
 */
import { DyloraError } from "../errors.js";
import { aspectRatio, type BucketRules, compareSizes, framing, sizeName } from "./buckets.js";
import type { Dataset, DatasetItem } from "./dataset.js";
import type { ProbedImage } from "./probe.js";
import type { ImageSize } from "./resolution.js";
import { countImages, listNames } from "./wording.js";

/**
 * The dataset with a frame for every item.
 *
 * With `noUpscale`, images that are too small for one step are left out, with a warning that names them.
 *
 * @param probed - the sizes of all items
 * @throws {DyloraError} `E_DATA` if no image is left
 */
export function assignBuckets(dataset: Dataset, probed: readonly ProbedImage[], rules: BucketRules): Dataset {
  const frameOf = framing(rules);
  const sizes = new Map(probed.map(({ item, width, height }) => [item.key, { width, height }]));
  const items: DatasetItem[] = [];
  const tooSmall: string[] = [];
  for (const item of dataset.items) {
    const size = sizes.get(item.key)!;
    const frame = frameOf(size);
    if (frame === null) tooSmall.push(`${item.imagePath} (${sizeName(size)})`);
    else items.push({ ...item, frame, aspectError: Math.abs(aspectRatio(frame) - aspectRatio(size)) });
  }
  if (tooSmall.length === 0) return { ...dataset, items };
  const why = `with --bucket_no_upscale both sides of an image need at least --bucket_reso_steps, ${rules.steps} px`;
  if (items.length === 0) {
    throw new DyloraError(
      "E_DATA",
      `data: no image is large enough: ${why}; found ${listNames(tooSmall, 3)}`,
      {
        note: "Leave out --bucket_no_upscale to have images enlarged. Nothing was written.",
      },
    );
  }
  const warning = `skipped ${countImages(tooSmall.length)} (${listNames(tooSmall, 3)}): ${why}`;
  return { items, warnings: [...dataset.warnings, warning] };
}

/** The images of one size. */
export interface Bucket extends ImageSize {
  readonly imageCount: number;
  /** Images counted as often as an epoch shows them. */
  readonly sampleCount: number;
}

/** The buckets that items lie in, by width, then height; none for items of a data set without buckets. */
export function bucketsOf(items: readonly DatasetItem[]): Bucket[] {
  const buckets = new Map<string, Bucket>();
  for (const { frame, repeats } of items) {
    if (frame === undefined) continue;
    const { width, height } = frame;
    const { imageCount, sampleCount } = buckets.get(sizeName(frame)) ?? { imageCount: 0, sampleCount: 0 };
    buckets.set(sizeName(frame), {
      width,
      height,
      imageCount: imageCount + 1,
      sampleCount: sampleCount + repeats,
    });
  }
  return [...buckets.values()].sort(compareSizes);
}

/** Mean difference between the aspect ratios (width / height) of the images and of their buckets; 0 without buckets. */
export function meanAspectError(items: readonly DatasetItem[]): number {
  if (items.length === 0) return 0;
  return items.reduce((sum, { aspectError = 0 }) => sum + aspectError, 0) / items.length;
}
