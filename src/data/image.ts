/**
 * Images as the model sees them: decoded, upright, opaque, sRGB, scaled and cropped to one size, in [-1, 1].
 */
import { readFile } from "node:fs/promises";
import sharp, { type Sharp } from "sharp";
import { DyloraError } from "../errors.js";
import { readError } from "../io/file-error.js";
import type { ImageSize } from "./resolution.js";

// One thread per image: parallelism comes from decoding several images at once in libuv's thread pool
// (UV_THREADPOOL_SIZE is set by bin/dylora.js before Node starts that pool). libvips' threads within one image would
// only compete with those and with onnxruntime.
sharp.concurrency(1);
// Training reads every image once per epoch in random order: a cache of open files and results holds memory, hits
// nothing, and would hide that a file has changed.
sharp.cache(false);

export interface LoadImageOptions extends ImageSize {
  /**
   * Size of the whole image before it is cropped, see `Frame`; default: the smallest that covers width and height in the
   * image's own shape.
   */
  scaled?: ImageSize;
  /** Mirror left and right; default false. */
  flip?: boolean;
}

/**
 * Names how `decodeImage` turns bytes into numbers. Part of every cache key that holds something computed from
 * pixels: it must change whenever those numbers do.
 */
export const IMAGE_PIPELINE = "cover-centre-lanczos3/1";

/** The byte values 0 to 255 in [-1, 1]. */
const SIGNED = Float32Array.from({ length: 256 }, (_, byte) => byte / 127.5 - 1);

/**
 * Reads and decodes one image file.
 *
 * In this order: the EXIF orientation is applied, an embedded colour profile is converted to sRGB (gray, CMYK and
 * 16-bit images become 8-bit RGB), the image is scaled so that it covers the size, the overhang is cropped equally on
 * both sides, and transparent parts are composited on white.
 *
 * Scaling: libvips reduces with the Lanczos 3 kernel and enlarges with bicubic interpolation, alpha premultiplied.
 * JPEG's shortcut of decoding at reduced size is left to factors where it shows no moire (`fastShrinkOnLoad: false`).
 *
 * Differences from sd-scripts: it reduces with OpenCV's area average, which libvips does not have; it ignores colour
 * profiles; and it drops the alpha channel, so that whatever colour hides under transparent pixels appears.
 *
 * @returns `[3, height, width]`, channel first (R, G, B), values in [-1, 1]
 * @throws {DyloraError} `E_NOT_FOUND` or `E_READ` if the file cannot be read, `E_FORMAT` if its content cannot be
 *   decoded (truncated, corrupt, not an image); both name the file
 */
export async function loadImage(path: string, options: LoadImageOptions): Promise<Float32Array> {
  return decodeImage(await readImageFile(path), path, options);
}

/** The bytes of an image file; errors as `loadImage`. */
export async function readImageFile(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw readError(path, cause);
  }
}

/** `loadImage` for bytes that are in memory already; `path` only names them in an error. */
export async function decodeImage(
  bytes: Uint8Array,
  path: string,
  options: LoadImageOptions,
): Promise<Float32Array> {
  const { width, height, flip = false } = options;
  let pixels: Uint8Array;
  try {
    pixels = await scaledAndCropped(sharp(bytes, SHARP_INPUT).autoOrient(), options)
      .flatten({ background: "#ffffff" })
      .toColourspace("srgb")
      .raw({ depth: "uchar" })
      .toBuffer();
  } catch (cause) {
    throw undecodable(path, cause);
  }
  return toSignedPlanes(pixels, width, height, flip);
}

function scaledAndCropped(image: Sharp, { width, height, scaled }: LoadImageOptions): Sharp {
  const kernel = { kernel: "lanczos3", fastShrinkOnLoad: false } as const;
  if (scaled === undefined)
    return image.resize(width, height, { fit: "cover", position: "centre", ...kernel });
  return image.resize(scaled.width, scaled.height, { fit: "fill", ...kernel }).extract({
    left: Math.floor((scaled.width - width) / 2),
    top: Math.floor((scaled.height - height) / 2),
    width,
    height,
  });
}

/** `error`: a truncated file fails, a decoder's mere warning does not. */
export const SHARP_INPUT = { failOn: "error" } as const;

export function undecodable(path: string, cause: unknown): DyloraError {
  return new DyloraError("E_FORMAT", `image: ${path} cannot be decoded: ${reasonOf(cause)}`, { cause });
}

/** libvips' message on one line, without the repetition it likes. */
function reasonOf(cause: unknown): string {
  const message = cause instanceof Error ? cause.message : String(cause);
  return [...new Set(message.split("\n").map((line) => line.trim()))]
    .filter((line) => line !== "")
    .join("; ");
}

/** `[height, width, 3]` bytes to `[3, height, width]` in [-1, 1], mirrored if asked. */
function toSignedPlanes(pixels: Uint8Array, width: number, height: number, flip: boolean): Float32Array {
  const area = width * height;
  const planes = new Float32Array(3 * area);
  let source = 0;
  for (let y = 0; y < height; y++) {
    const step = flip ? -1 : 1;
    let target = y * width + (flip ? width - 1 : 0);
    for (let x = 0; x < width; x++) {
      planes[target] = SIGNED[pixels[source]!]!;
      planes[target + area] = SIGNED[pixels[source + 1]!]!;
      planes[target + 2 * area] = SIGNED[pixels[source + 2]!]!;
      source += 3;
      target += step;
    }
  }
  return planes;
}
