/** The sizes that a comparison measures at. */

import {
  adjustBounds,
  type BucketRules,
  checkResolution,
  checkSteps,
  type ImageSize,
} from "../data/index.js";

/** What was trained at when the file does not say. */
const DEFAULT_RESOLUTION: ImageSize = { width: 512, height: 512 };

/** sd-scripts' defaults of the options that a file need not name. */
const DEFAULT_BUCKETS = { min: 256, max: 1024, steps: 64 };

export interface BenchSizes {
  readonly resolution: ImageSize;
  /** Null: all images at `resolution`. */
  readonly buckets: BucketRules | null;
}

/**
 * As the first of the files that says so was trained; a resolution that is given means that size, or with
 * `--enable_bucket` its area.
 *
 * @param metadata - of the files
 * @param multiple - of which sides must be multiples in this model, in pixels
 * @throws {DyloraError} `E_USAGE`, `E_CONFIG` for sizes that the model cannot work at
 */
export function benchSizes(
  options: { readonly resolution: ImageSize | null; readonly enableBucket: boolean },
  metadata: readonly Readonly<Record<string, string>>[],
  multiple: number,
): BenchSizes {
  const trained = metadata.find(({ ss_resolution }) => sizeOf(ss_resolution) !== null) ?? {};
  const resolution = options.resolution ?? sizeOf(trained.ss_resolution) ?? DEFAULT_RESOLUTION;
  const asTrained = options.resolution === null && trained.ss_enable_bucket === "True";
  if (!options.enableBucket && !asTrained) {
    return { resolution: checkResolution(resolution, multiple), buckets: null };
  }
  const number = (text: string | undefined, otherwise: number) =>
    /^[1-9]\d{0,5}$/.test(text ?? "") ? Number(text) : otherwise;
  const steps = checkSteps(number(trained.ss_bucket_reso_steps, DEFAULT_BUCKETS.steps), multiple);
  const bounds = {
    minSide: number(trained.ss_min_bucket_reso, DEFAULT_BUCKETS.min),
    maxSide: number(trained.ss_max_bucket_reso, DEFAULT_BUCKETS.max),
  };
  const noUpscale = trained.ss_bucket_no_upscale === "True";
  return { resolution, buckets: { resolution, ...adjustBounds(bounds, steps), steps, noUpscale } };
}

/** sd-scripts writes `(768, 512)`. */
function sizeOf(text: string | undefined): ImageSize | null {
  const match = /^\((\d+), (\d+)\)$/.exec(text ?? "");
  return match === null ? null : { width: Number(match[1]), height: Number(match[2]) };
}
