/** PNG files with a text that describes them. */

import sharp from "sharp";
import { crc32 } from "./crc32.js";

/** The keyword that stable-diffusion-webui uses. */
const KEYWORD = "parameters";

/** Signature (8 bytes) and header chunk (25 bytes), which come first in every PNG. */
const HEADER_END = 33;

/**
 * A PNG file.
 *
 * @param image - red, green and blue of every pixel, row by row
 * @param parameters - the text under the keyword `parameters`; null for none. sharp has no way to write one.
 */
export async function encodePng(
  image: { readonly pixels: Uint8Array; readonly width: number; readonly height: number },
  parameters: string | null,
): Promise<Uint8Array> {
  const { pixels, width, height } = image;
  const png = await sharp(pixels, { raw: { width, height, channels: 3 } })
    .png()
    .toBuffer();
  return parameters === null ? png : withTextChunk(png, KEYWORD, parameters);
}

/**
 * Puts a text chunk behind the header of a PNG file: `tEXt`, which every reader knows, for ASCII, else `iTXt` (UTF-8). `tEXt`
 * may hold Latin-1 as well, but libvips and others take it for UTF-8.
 *
 * @see Portable Network Graphics (PNG) Specification, third edition, 11.3.3
 */
export function withTextChunk(png: Uint8Array, keyword: string, text: string): Uint8Array {
  // NUL ends strings in these chunks.
  const clean = text.replaceAll("\0", "");
  const head = Buffer.from(`${keyword}\0`, "latin1");
  const bytes = Buffer.from(clean, "utf8");
  const chunk =
    bytes.length === clean.length
      ? pngChunk("tEXt", Buffer.concat([head, bytes]))
      : // Not compressed (two zero bytes), no language, no translated keyword.
        pngChunk("iTXt", Buffer.concat([head, Buffer.from([0, 0, 0, 0]), bytes]));
  return Buffer.concat([png.subarray(0, HEADER_END), chunk, png.subarray(HEADER_END)]);
}

/** Length of the data, type, data, and the checksum of type and data. */
function pngChunk(type: string, data: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(data.length);
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  const checksum = Buffer.alloc(4);
  checksum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, checksum]);
}
