/**
 * Held-out images: a deterministic split by image.
 */
import { DyloraError } from "../errors.js";
import { randomStream } from "../random/stream.js";
import type { Dataset, DatasetItem } from "./dataset.js";

export interface ValidationSplit {
  train: Dataset;
  validation: Dataset;
}

/**
 * Splits off the share `split` of the images for validation (`--validation_split`, `--validation_seed`).
 *
 * - By image, never by repeat: an image is trained on or held out, not both. (sd-scripts rounds the two parts
 *   separately, and for some counts one image falls into both.)
 * - The total is `round(split * images)`, at least 1 and at most all but one. It is divided over the sub-folders in
 *   proportion to their images (largest remainder), so that many small folders together still give their share.
 * - Each image draws a number from a stream of its own, named by the seed and its key, and the lowest of a sub-folder
 *   are held out: the order in which the system lists files does not matter, and images added later do not
 *   reshuffle the old ones.
 *
 * The items of both parts keep their order; the warnings stay with `train`.
 *
 * @param split - share of the images, at least 0 and below 1; 0 holds out none
 * @throws {DyloraError} `E_CONFIG` for another share, `E_DATA` if there is only one image
 */
export function splitValidation(dataset: Dataset, split: number, seed: number): ValidationSplit {
  const { items, warnings } = dataset;
  if (!(split >= 0 && split < 1)) {
    throw new DyloraError(
      "E_CONFIG",
      `data: --validation_split must be at least 0 and below 1, got ${split}`,
    );
  }
  if (split === 0) return { train: dataset, validation: { items: [], warnings: [] } };
  if (items.length < 2) {
    throw new DyloraError(
      "E_DATA",
      `data: --validation_split ${split} needs at least 2 images (one to train on, one to hold out), found ${items.length}`,
      { note: "Use --validation_dir for a folder of other images, or no validation." },
    );
  }

  const total = Math.min(Math.max(Math.round(items.length * split), 1), items.length - 1);
  const subsets = new Map<string, DatasetItem[]>();
  for (const item of items) {
    const subset = subsets.get(item.subset);
    if (subset === undefined) subsets.set(item.subset, [item]);
    else subset.push(item);
  }
  const quotas = divideProportionally(
    total,
    [...subsets.values()].map((subset) => subset.length),
  );
  const held = new Set<DatasetItem>();
  [...subsets.values()].forEach((subset, index) => {
    const draws = subset.map((item) => ({
      item,
      draw: randomStream(seed, "validation", item.key).uniform(),
    }));
    draws.sort((a, b) => a.draw - b.draw || (a.item.key < b.item.key ? -1 : 1));
    for (const { item } of draws.slice(0, quotas[index])) held.add(item);
  });
  return {
    train: { items: items.filter((item) => !held.has(item)), warnings },
    validation: { items: items.filter((item) => held.has(item)), warnings: [] },
  };
}

/** Whole parts of `total`, proportional to `sizes`, by largest remainder; equal remainders go to the earlier part. */
function divideProportionally(total: number, sizes: readonly number[]): number[] {
  const sum = sizes.reduce((a, b) => a + b, 0);
  const shares = sizes.map((size) => (total * size) / sum);
  const parts = shares.map(Math.floor);
  const rest = total - parts.reduce((a, b) => a + b, 0);
  const byRemainder = shares.map((share, index) => ({ index, remainder: share - Math.floor(share) }));
  byRemainder.sort((a, b) => b.remainder - a.remainder || a.index - b.index);
  for (const { index } of byRemainder.slice(0, rest)) parts[index]! += 1;
  return parts;
}
