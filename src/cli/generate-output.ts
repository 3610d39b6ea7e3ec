/** What `dylora generate` prints. */

import type { GenerateReport, PictureFile } from "../sampling/generate-files.js";
import type { GenerateProgress } from "../sampling/types.js";
import { formatBytes, formatDuration, formatPath, formatQuantity } from "./format.js";

/** `picture 2/6  step 12/30`. */
export function generateProgressLine({ image, images, step, steps }: GenerateProgress): string {
  return `picture ${image + 1}/${images}  step ${step}/${steps}`;
}

/** One line for each picture, as soon as it is there. */
export function pictureLine({ path, width, height, sizeBytes, seconds }: PictureFile): string {
  return `${formatPath(path)}  ${width}x${height}, ${formatBytes(sizeBytes)}, ${formatDuration(seconds)}\n`;
}

export function generateSummary(report: GenerateReport): string {
  const pictures = formatQuantity(report.images.length, "picture");
  return `drew ${pictures} in ${formatDuration(report.seconds)} on ${report.device} (${report.provider}), peak memory ${formatBytes(report.peakRssBytes)}\n`;
}
