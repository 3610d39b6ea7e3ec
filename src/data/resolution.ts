/**
 * `--resolution`: "512" or "768,512" (width, height).
 */
import { DyloraError } from "../errors.js";

/** Size of the images that the model sees, in pixels. */
export interface ImageSize {
  readonly width: number;
  readonly height: number;
}

/**
 * Parses a resolution: `checkResolution` for text.
 *
 * @throws {DyloraError} `E_USAGE` for text of another form, and as `checkResolution`
 */
export function parseResolution(text: string, multiple: number): ImageSize {
  const match = /^\s*(\d{1,6})\s*(?:,\s*(\d{1,6})\s*)?$/u.exec(text);
  if (match === null) {
    throw new DyloraError("E_USAGE", `--resolution must be "512" or "768,512" (width,height), got "${text}"`);
  }
  const width = Number(match[1]);
  return checkResolution({ width, height: match[2] === undefined ? width : Number(match[2]) }, multiple);
}

/**
 * Returns the size if the model can work at it.
 *
 * sd-scripts asks for multiples of 64. What the model needs is less general: the VAE divides both sides by its factor
 * and each level of the U-Net below the first halves them again. So the multiple is vaeFactor * 2 ** (levels - 1): 64
 * for Stable Diffusion 1 and 2 (factor 8, 4 levels), less for small test models.
 *
 * @param multiple - both sides must be multiples of this, in pixels
 * @throws {DyloraError} `E_USAGE` otherwise; the note names the nearest valid size
 */
export function checkResolution(size: ImageSize, multiple: number): ImageSize {
  const { width, height } = size;
  if (isValidSide(width, multiple) && isValidSide(height, multiple)) return size;
  const nearest = formatSize(nearestSide(width, multiple), nearestSide(height, multiple));
  throw new DyloraError(
    "E_USAGE",
    `--resolution must have sides that are positive multiples of ${multiple} for this model, got ${formatSize(width, height)}`,
    { note: `The nearest is --resolution ${nearest}.` },
  );
}

function formatSize(width: number, height: number): string {
  return width === height ? `${width}` : `${width},${height}`;
}

function isValidSide(side: number, multiple: number): boolean {
  return Number.isInteger(side) && side > 0 && side % multiple === 0;
}

function nearestSide(side: number, multiple: number): number {
  return Math.max(Math.round(side / multiple), 1) * multiple;
}
