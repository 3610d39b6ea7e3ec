/** Pictures as part of a page. */

import sharp, { type Sharp } from "sharp";
import { DyloraError } from "../../errors.js";
import { readError } from "../../io/index.js";
import type { EmbeddedPicture } from "./picture-grid.js";

/** Longest side: enlarged on a screen, more is not seen, and a page of forty stays below two megabytes. */
const MOST_PIXELS = 384;
/** Below this, loss shows, and saves little. */
const LOSSLESS_BELOW_PIXELS = 160;
const QUALITY = 82;

/** A PNG, JPEG or WebP file, made smaller. */
export async function embedFile(path: string): Promise<EmbeddedPicture> {
  try {
    return await embed(sharp(path).rotate());
  } catch (cause) {
    if (cause instanceof Error && /missing/i.test(cause.message)) throw readError(path, cause);
    throw new DyloraError("E_FORMAT", `read ${path}: not an image that can be decoded`, { cause });
  }
}

/** @param pixels - red, green, blue of every pixel, row by row from the top */
export async function embedPixels(
  pixels: Uint8Array,
  size: { readonly width: number; readonly height: number },
): Promise<EmbeddedPicture> {
  return embed(sharp(pixels, { raw: { width: size.width, height: size.height, channels: 3 } }));
}

async function embed(image: Sharp): Promise<EmbeddedPicture> {
  const { width: fullWidth, height: fullHeight } = await image.metadata();
  const lossless = Math.max(fullWidth ?? 0, fullHeight ?? 0) < LOSSLESS_BELOW_PIXELS;
  const { data, info } = await image
    .resize({ width: MOST_PIXELS, height: MOST_PIXELS, fit: "inside", withoutEnlargement: true })
    .webp(lossless ? { lossless: true } : { quality: QUALITY })
    .toBuffer({ resolveWithObject: true });
  return {
    url: `data:image/webp;base64,${data.toString("base64")}`,
    width: info.width,
    height: info.height,
  };
}
