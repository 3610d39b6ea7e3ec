/**
 * Aspect-ratio buckets: every image is trained at the size of about its own shape.
 *
 * List of sizes and choice of the size are sd-scripts' (`make_bucket_resolutions`, `BucketManager.select_bucket`), so that
 * a data set lies in the same buckets here and there.
 */
import { DyloraError } from "../errors.js";
import type { ImageSize } from "./resolution.js";

/** How an image comes to the size of its batch: scaled, then cropped equally on both sides. */
export interface Frame extends ImageSize {
  /** Size of the whole image before it is cropped; both sides at least those of the frame. */
  readonly scaled: ImageSize;
}

export interface BucketRules {
  /** `--resolution`; only its area counts. */
  readonly resolution: ImageSize;
  /** `--min_bucket_reso`, `--max_bucket_reso`: bounds of both sides in pixels, multiples of `steps`. */
  readonly minSide: number;
  readonly maxSide: number;
  /** `--bucket_reso_steps`: sides are multiples of it. */
  readonly steps: number;
  /** `--bucket_no_upscale`: images are never enlarged; sizes come from the images, and the bounds have no effect. */
  readonly noUpscale: boolean;
}

/** The bounds as sd-scripts uses them: the smaller one rounded down to a multiple of `steps`, the larger one up. */
export function adjustBounds(bounds: { minSide: number; maxSide: number }, steps: number) {
  return {
    minSide: Math.floor(bounds.minSide / steps) * steps,
    maxSide: Math.ceil(bounds.maxSide / steps) * steps,
  };
}

/**
 * Returns the steps of sides if the model can work at all their multiples.
 *
 * @param multiple - as in `checkResolution`
 * @throws {DyloraError} `E_CONFIG` otherwise; the note names the nearest valid number
 */
export function checkSteps(steps: number, multiple: number): number {
  if (steps % multiple === 0) return steps;
  throw new DyloraError(
    "E_CONFIG",
    `--bucket_reso_steps must be a multiple of ${multiple} for this model, got ${steps}`,
    { note: `The nearest is --bucket_reso_steps ${Math.max(1, Math.round(steps / multiple)) * multiple}.` },
  );
}

/**
 * The sizes that images are sorted into without `noUpscale`: for every width between the bounds the greatest height whose
 * area is within that of the resolution, both turned by 90 degrees, and a square; sorted by width, then height.
 */
export function bucketSizes({ resolution, minSide, maxSide, steps }: BucketRules): ImageSize[] {
  const maxArea = resolution.width * resolution.height;
  const down = (side: number) => Math.floor(side / steps) * steps;
  const square = down(Math.sqrt(maxArea));
  const sizes: ImageSize[] = [{ width: square, height: square }];
  for (let width = minSide; width <= maxSide; width += steps) {
    const height = Math.min(maxSide, down(Math.floor(maxArea / width)));
    if (height >= minSide) sizes.push({ width, height }, { width: height, height: width });
  }
  const distinct = new Map(sizes.map((size) => [sizeName(size), size]));
  return [...distinct.values()].sort(compareSizes);
}

/**
 * Makes the function that finds the frame of an image from its size in pixels, upright.
 *
 * Without `noUpscale`: the size of the list that the image has already, or else the one of the nearest aspect ratio (width
 * / height), the first of the list where two are equally near. With `noUpscale`: the image's own size, reduced to the area of
 * the resolution where it is larger, and rounded down to `steps`; null where a side is too short for even one step.
 */
export function framing(rules: BucketRules): (image: ImageSize) => Frame | null {
  if (rules.noUpscale) return (image) => frameWithoutUpscale(image, rules);
  const sizes = bucketSizes(rules);
  return (image) => frameOfList(image, sizes);
}

function frameOfList(image: ImageSize, sizes: readonly ImageSize[]): Frame {
  const aspect = aspectRatio(image);
  let nearest = sizes[0]!;
  for (const size of sizes) {
    if (size.width === image.width && size.height === image.height) return { ...size, scaled: image };
    if (Math.abs(aspectRatio(size) - aspect) < Math.abs(aspectRatio(nearest) - aspect)) nearest = size;
  }
  const scale = aspect > aspectRatio(nearest) ? nearest.height / image.height : nearest.width / image.width;
  return {
    ...nearest,
    scaled: { width: rounded(image.width * scale), height: rounded(image.height * scale) },
  };
}

function frameWithoutUpscale(image: ImageSize, { resolution, steps }: BucketRules): Frame | null {
  const scaled = reducedToArea(image, resolution.width * resolution.height, steps);
  const width = scaled.width - (scaled.width % steps);
  const height = scaled.height - (scaled.height % steps);
  return width > 0 && height > 0 ? { width, height, scaled } : null;
}

/** Either side becomes a multiple of `steps`: the one that changes the aspect ratio less. */
function reducedToArea(image: ImageSize, maxArea: number, steps: number): ImageSize {
  if (image.width * image.height <= maxArea) return image;
  const aspect = aspectRatio(image);
  const toSteps = (side: number) => rounded(side) - (rounded(side) % steps);
  const idealWidth = Math.sqrt(maxArea * aspect);
  const width = toSteps(idealWidth);
  const height = toSteps(maxArea / idealWidth);
  const errorByWidth = Math.abs(width / toSteps(width / aspect) - aspect);
  const errorByHeight = Math.abs(toSteps(height * aspect) / height - aspect);
  return errorByWidth < errorByHeight
    ? { width, height: rounded(width / aspect) }
    : { width: rounded(height * aspect), height };
}

/** Halves go up, for positive numbers. */
function rounded(value: number): number {
  return Math.floor(value + 0.5);
}

export function aspectRatio({ width, height }: ImageSize): number {
  return width / height;
}

/** `768x512`. */
export function sizeName({ width, height }: ImageSize): string {
  return `${width}x${height}`;
}

/** By width, then by height, as sd-scripts numbers buckets. */
export function compareSizes(a: ImageSize, b: ImageSize): number {
  return a.width - b.width || a.height - b.height;
}
