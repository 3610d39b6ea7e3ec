import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";
import { describe, expect, test } from "vitest";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import { decodeImage, loadImage } from "./image.js";

/**
 * Pixels of the test pictures: `rows` of colours, repeated `scale` times in both directions so that scaling keeps
 * them flat.
 */
function picture(rows: readonly (readonly (readonly number[])[])[], scale = 8) {
  const channels = rows[0]![0]!.length as 1 | 2 | 3 | 4;
  const height = rows.length * scale;
  const width = rows[0]!.length * scale;
  const pixels = new Uint8Array(width * height * channels);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      pixels.set(rows[Math.floor(y / scale)]![Math.floor(x / scale)]!, (y * width + x) * channels);
    }
  }
  return sharp(pixels, { raw: { width, height, channels } });
}

const RED = [255, 0, 0];
const GREEN = [0, 255, 0];
const BLUE = [0, 0, 255];
const GRAY = [128, 128, 128];

/** The colour at a pixel of a decoded image, as bytes. */
function colourAt(planes: Float32Array, width: number, height: number, x: number, y: number): number[] {
  return [0, 1, 2].map((channel) =>
    Math.round((planes[channel * width * height + y * width + x]! + 1) * 127.5),
  );
}

/** Middle of each quadrant of a 16 x 16 result: top left, top right, bottom left, bottom right. */
function quadrants(planes: Float32Array): number[][] {
  return [
    [4, 4],
    [12, 4],
    [4, 12],
    [12, 12],
  ].map(([x, y]) => colourAt(planes, 16, 16, x!, y!));
}

const SIZE = { width: 16, height: 16 };
const QUARTERS = [
  [RED, GREEN],
  [BLUE, GRAY],
];

describe("layout and range", () => {
  test("channel first, R G B, rows from the top, -1 to 1", async () => {
    const planes = await decodeImage(await picture(QUARTERS, 1).png().toBuffer(), "x.png", {
      width: 2,
      height: 2,
    });
    const middle = 128 / 127.5 - 1;
    const expected = [
      [1, -1, -1, middle],
      [-1, 1, -1, middle],
      [-1, -1, 1, middle],
    ];
    expect(planes).toEqual(Float32Array.from(expected.flat()));
  });

  test("flip mirrors left and right exactly", async () => {
    const bytes = await picture(QUARTERS).png().toBuffer();
    const plain = await decodeImage(bytes, "x.png", SIZE);
    const flipped = await decodeImage(bytes, "x.png", { ...SIZE, flip: true });
    for (let row = 0; row < 3 * 16; row++) {
      expect(flipped.subarray(row * 16, row * 16 + 16)).toEqual(
        plain.slice(row * 16, row * 16 + 16).reverse(),
      );
    }
    expect(quadrants(flipped)).toEqual([GREEN, RED, GRAY, BLUE]);
  });
});

describe("EXIF orientation", () => {
  // What each orientation makes of red, green / blue, gray (top left, top right / bottom left, bottom right).
  test.each([
    [1, [RED, GREEN, BLUE, GRAY]],
    [2, [GREEN, RED, GRAY, BLUE]],
    [3, [GRAY, BLUE, GREEN, RED]],
    [4, [BLUE, GRAY, RED, GREEN]],
    [5, [RED, BLUE, GREEN, GRAY]],
    [6, [BLUE, RED, GRAY, GREEN]],
    [7, [GRAY, GREEN, BLUE, RED]],
    [8, [GREEN, GRAY, RED, BLUE]],
  ])("%d", async (orientation, expected) => {
    const bytes = await picture(QUARTERS).withMetadata({ orientation }).png().toBuffer();
    expect(quadrants(await decodeImage(bytes, "x.png", SIZE))).toEqual(expected);
  });
});

describe("scale to cover, centre crop", () => {
  test("a wide image loses its sides", async () => {
    const bytes = await picture([[RED, GREEN, BLUE, GRAY]], 16)
      .png()
      .toBuffer();
    const planes = await decodeImage(bytes, "x.png", { width: 32, height: 16 });
    expect(colourAt(planes, 32, 16, 8, 8)).toEqual(GREEN);
    expect(colourAt(planes, 32, 16, 24, 8)).toEqual(BLUE);
  });

  test("a tall image loses top and bottom", async () => {
    const bytes = await picture([[RED], [GREEN], [BLUE], [GRAY]], 16)
      .png()
      .toBuffer();
    const planes = await decodeImage(bytes, "x.png", { width: 16, height: 32 });
    expect(colourAt(planes, 16, 32, 8, 8)).toEqual(GREEN);
    expect(colourAt(planes, 16, 32, 8, 24)).toEqual(BLUE);
  });

  test("an image that is too small is enlarged, a large one reduced", async () => {
    for (const scale of [4, 64]) {
      const bytes = await picture(QUARTERS, scale).png().toBuffer();
      expect(quadrants(await decodeImage(bytes, "x.png", SIZE))).toEqual([RED, GREEN, BLUE, GRAY]);
    }
  });

  test("to a size that is given, then cropped equally on both sides, the odd pixel at the end", async () => {
    const stripes = [Array.from({ length: 21 }, (_, x) => [12 * x, 0, 0])];
    const bytes = await picture(stripes, 1)
      .resize(21, 8, { kernel: "nearest", fit: "fill" })
      .png()
      .toBuffer();
    const planes = await decodeImage(bytes, "x.png", {
      width: 16,
      height: 8,
      scaled: { width: 21, height: 8 },
    });
    // 5 columns too many: 2 go on the left, 3 on the right.
    for (let x = 0; x < 16; x++) expect(colourAt(planes, 16, 8, x, 4)[0]).toBe(12 * (x + 2));
    const tall = await sharp(bytes).rotate(90).png().toBuffer();
    const turned = await decodeImage(tall, "x.png", {
      width: 8,
      height: 16,
      scaled: { width: 8, height: 21 },
    });
    for (let y = 0; y < 16; y++) expect(colourAt(turned, 8, 16, 4, y)[0]).toBe(12 * (y + 2));
    const enlarged = await decodeImage(bytes, "x.png", {
      width: 32,
      height: 16,
      scaled: { width: 42, height: 16 },
    });
    expect(Math.abs(colourAt(enlarged, 32, 16, 15, 8)[0]! - 12 * 10)).toBeLessThan(10);
  });

  test("reduces by averaging, not by picking pixels", async () => {
    const checkers = Array.from({ length: 64 }, (_, y) =>
      Array.from({ length: 64 }, (_, x) => ((x + y) % 2 === 0 ? [255, 255, 255] : [0, 0, 0])),
    );
    const planes = await decodeImage(await picture(checkers, 1).png().toBuffer(), "x.png", SIZE);
    for (const value of planes) expect(Math.abs(value)).toBeLessThan(0.02);
  });
});

describe("pixel formats", () => {
  const load = async (bytes: Uint8Array) => colourAt(await decodeImage(bytes, "x", SIZE), 16, 16, 8, 8);

  test("transparency is composited on white", async () => {
    expect(
      await load(
        await picture([[[255, 0, 0, 128]]])
          .png()
          .toBuffer(),
      ),
    ).toEqual([255, 127, 127]);
    expect(
      await load(
        await picture([[[10, 20, 30, 0]]])
          .png()
          .toBuffer(),
      ),
    ).toEqual([255, 255, 255]);
  });

  test("the hidden colour of transparent pixels does not bleed at edges", async () => {
    const bytes = await picture(
      [
        [
          [255, 0, 0, 255],
          [0, 255, 0, 0],
        ],
      ],
      64,
    )
      .png()
      .toBuffer();
    const planes = await decodeImage(bytes, "x.png", { width: 16, height: 8 });
    for (let x = 0; x < 16; x++) {
      const [, green, blue] = colourAt(planes, 16, 8, x, 4);
      expect(green).toBe(blue); // red over white has as much green as blue everywhere
    }
  });

  test("gray, gray with alpha, palette", async () => {
    expect(
      await load(
        await picture([[[77]]])
          .toColourspace("b-w")
          .png()
          .toBuffer(),
      ),
    ).toEqual([77, 77, 77]);
    expect(
      await load(
        await picture([[[0, 128]]])
          .toColourspace("b-w")
          .png()
          .toBuffer(),
      ),
    ).toEqual([127, 127, 127]);
    expect(
      await load(
        await picture([[[1, 2, 3]]])
          .png({ palette: true })
          .toBuffer(),
      ),
    ).toEqual([1, 2, 3]);
  });

  test("16 bits a channel", async () => {
    const raw = { raw: { width: 8, height: 8, channels: 1 as const } };
    const gray = await sharp(new Uint16Array(64).fill(0x8080), raw).toColourspace("grey16").png().toBuffer();
    expect((await sharp(gray).metadata()).depth).toBe("ushort");
    expect(await load(gray)).toEqual([128, 128, 128]);
    const rgba = Uint16Array.from({ length: 256 }, (_, index) => [0xffff, 0, 0, 0x8000][index % 4]!);
    const colour = await sharp(rgba, { raw: { width: 8, height: 8, channels: 4 } })
      .toColourspace("rgb16")
      .png()
      .toBuffer();
    expect((await sharp(colour).metadata()).depth).toBe("ushort");
    expect(await load(colour)).toEqual([255, 127, 127]);
  });

  test("CMYK becomes RGB", async () => {
    const bytes = await picture([[[200, 30, 30]]])
      .withIccProfile("cmyk")
      .jpeg({ quality: 100 })
      .toBuffer();
    expect((await sharp(bytes).metadata()).channels).toBe(4);
    const [red, green, blue] = await load(bytes);
    // The gamut of the CMYK profile is smaller: the colour comes back as close as that allows.
    expect(red).toBeGreaterThan(180);
    expect(green).toBeLessThan(50);
    expect(blue).toBeLessThan(50);
  });

  test("an embedded profile is converted to sRGB", async () => {
    const bytes = await picture([[[200, 30, 30]]])
      .withIccProfile("p3")
      .png()
      .toBuffer();
    const stored = await sharp(bytes, { ignoreIcc: true }).raw().toBuffer();
    expect([...stored.subarray(0, 3)]).not.toEqual([200, 30, 30]);
    for (const [index, value] of (await load(bytes)).entries()) {
      expect(Math.abs(value - [200, 30, 30][index]!)).toBeLessThanOrEqual(1);
    }
  });

  test.each(["jpeg", "webp", "avif"] as const)("%s", async (format) => {
    const bytes = await picture([[[200, 60, 30]]], 32)
      .toFormat(format, { quality: 100 })
      .toBuffer();
    for (const [index, value] of (await load(bytes)).entries()) {
      expect(Math.abs(value - [200, 60, 30][index]!)).toBeLessThanOrEqual(3);
    }
  });
});

describe("files that cannot be used", () => {
  test("are named, with the reason", async () => {
    const dir = await tempFolder({ "text.png": "not an image", "empty.jpg": "" });
    const jpeg = await picture(QUARTERS, 64).jpeg().toBuffer();
    await writeFile(join(dir, "cut.jpg"), jpeg.subarray(0, jpeg.length - 200));
    for (const name of ["text.png", "empty.jpg", "cut.jpg"]) {
      await expect(loadImage(join(dir, name), SIZE)).rejects.toMatchObject({
        code: "E_FORMAT",
        message: expect.stringMatching(new RegExp(`${name} cannot be decoded: \\S`)),
      });
    }
    await expect(loadImage(join(dir, "missing.png"), SIZE)).rejects.toMatchObject({ code: "E_NOT_FOUND" });
    await expect(loadImage(dir, SIZE)).rejects.toMatchObject({ code: "E_READ" });
  });

  test("an image that changed on disk is read anew", async () => {
    const dir = await tempFolder();
    const path = join(dir, "a.png");
    for (const colour of [RED, BLUE]) {
      await writeFile(
        path,
        await picture([[colour]])
          .png()
          .toBuffer(),
      );
      expect(colourAt(await loadImage(path, SIZE), 16, 16, 0, 0)).toEqual(colour);
    }
  });
});
