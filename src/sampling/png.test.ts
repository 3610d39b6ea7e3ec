import { execFileSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";
import { describe, expect, test } from "vitest";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import { crc32 } from "./crc32.js";
import { encodePng } from "./png.js";

const PIXELS = Uint8Array.from({ length: 4 * 2 * 3 }, (_, i) => (i * 37) % 256);
const IMAGE = { pixels: PIXELS, width: 4, height: 2 };

test("CRC-32 of the check sequence", () => {
  expect(crc32(Buffer.from("123456789"))).toBe(0xcbf43926);
});

describe("a PNG with parameters", () => {
  test.each([
    ["ASCII", "a cat\nNegative prompt: b\nSteps: 20"],
    ["Latin-1", "a café\nSteps: 20"],
    ["Unicode", "日本の猫 🐈\nSteps: 20"],
    ["nothing", ""],
  ])("%s is read back by libvips, and the pixels are what they were", async (_, text) => {
    const png = await encodePng(IMAGE, text);
    const { comments, width, height } = await sharp(png).metadata();
    expect([width, height]).toEqual([4, 2]);
    expect(comments ?? [{ keyword: "parameters", text: "" }]).toEqual([{ keyword: "parameters", text }]);
    const { data } = await sharp(png).removeAlpha().raw().toBuffer({ resolveWithObject: true });
    expect(new Uint8Array(data)).toEqual(PIXELS);
  });

  test("every checksum is right, and the text lies between header and pixels", async () => {
    const png = Buffer.from(await encodePng(IMAGE, "a cat"));
    const types: string[] = [];
    for (let at = 8; at < png.length; ) {
      const length = png.readUInt32BE(at);
      const body = png.subarray(at + 4, at + 8 + length);
      expect(png.readUInt32BE(at + 8 + length)).toBe(crc32(body));
      types.push(body.toString("latin1", 0, 4));
      at += 12 + length;
    }
    expect(types[0]).toBe("IHDR");
    expect(types[1]).toBe("tEXt");
    expect(types.at(-1)).toBe("IEND");
  });

  test("without a text there is none", async () => {
    expect((await sharp(await encodePng(IMAGE, null)).metadata()).comments).toBeUndefined();
  });

  test("Python's zlib agrees about the checksums", async ({ skip }) => {
    const path = join(await tempFolder(), "a.png");
    await writeFile(path, await encodePng(IMAGE, "日本"));
    const program = [
      "import struct, sys, zlib",
      "data, at = open(sys.argv[1], 'rb').read(), 8",
      "while at < len(data):",
      "    n, kind = struct.unpack('>I4s', data[at:at+8])",
      "    body = data[at+8:at+8+n]",
      "    assert struct.unpack('>I', data[at+8+n:at+12+n])[0] == zlib.crc32(kind + body)",
      "    if kind == b'iTXt': print(body.split(bytes(1), 5)[-1].decode('utf8'))",
      "    at += 12 + n",
    ].join("\n");
    let printed: string;
    try {
      printed = execFileSync("python3", ["-c", program, path], {
        encoding: "utf8",
        env: { ...process.env, PYTHONIOENCODING: "utf8" },
      });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return skip("there is no python3 here");
      throw error;
    }
    expect(printed.trim()).toBe("日本");
  });
});
