import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";
import { describe, expect, test } from "vitest";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import type { Dataset } from "./dataset.js";
import { dropUnreadable, probeImages } from "./probe.js";

/** Noise does not compress, so cutting the last bytes of the file cuts pixels. */
function noise(width: number, height: number) {
  const pixels = Uint8Array.from({ length: width * height * 3 }, (_, index) => (index * 2654435761) >>> 13);
  return sharp(pixels, { raw: { width, height, channels: 3 } });
}

async function damagedDataset(): Promise<Dataset> {
  const dir = await tempFolder({ "text.png": "hello", "empty.webp": "" });
  const png = await noise(200, 100).png().toBuffer();
  const jpeg = await noise(200, 100).withMetadata({ orientation: 6 }).jpeg().toBuffer();
  const webp = await noise(200, 100).webp().toBuffer();
  const crcError = Buffer.from(png);
  crcError[png.length >> 1]! ^= 1;
  const files = {
    "good.png": png,
    "good.jpg": jpeg,
    "good.webp": webp,
    "cut.png": png.subarray(0, Math.floor(png.length * 0.97)),
    "cut.jpg": jpeg.subarray(0, Math.floor(jpeg.length * 0.97)),
    "cut.webp": webp.subarray(0, Math.floor(webp.length * 0.97)),
    "bit.png": crcError,
  };
  for (const [name, bytes] of Object.entries(files)) await writeFile(join(dir, name), bytes);
  const names = [
    "text.png",
    "good.png",
    "cut.png",
    "good.jpg",
    "cut.jpg",
    "good.webp",
    "cut.webp",
    "bit.png",
    "empty.webp",
    "missing.png",
  ];
  const items = names.map((name) => ({
    key: `1_x/${name}`,
    imagePath: join(dir, name),
    caption: "",
    repeats: 1,
    subset: "1_x",
  }));
  return { items, warnings: ["an earlier one"] };
}

describe("probeImages", () => {
  test("finds every file that training would stumble over, in order", async () => {
    const dataset = await damagedDataset();
    const progress: number[] = [];
    const result = await probeImages(dataset.items, { onProgress: (done) => progress.push(done) });
    expect(result.readable.map(({ item, width, height }) => [item.key, width, height])).toEqual([
      ["1_x/good.png", 200, 100],
      ["1_x/good.jpg", 100, 200],
      ["1_x/good.webp", 200, 100],
    ]);
    expect(result.unreadable.map(({ item, error }) => [item.key, error.code])).toEqual([
      ["1_x/text.png", "E_FORMAT"],
      ["1_x/cut.png", "E_FORMAT"],
      ["1_x/cut.jpg", "E_FORMAT"],
      ["1_x/cut.webp", "E_FORMAT"],
      ["1_x/bit.png", "E_FORMAT"],
      ["1_x/empty.webp", "E_FORMAT"],
      ["1_x/missing.png", "E_NOT_FOUND"],
    ]);
    expect(progress).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  });

  test("reads headers only when asked to: cut files pass", async () => {
    const { items } = await damagedDataset();
    const { readable } = await probeImages(items, { decodePixels: false });
    expect(readable.map(({ item }) => item.key)).toContain("1_x/cut.jpg");
  });

  test("stops when aborted", async () => {
    const { items } = await damagedDataset();
    const controller = new AbortController();
    const probe = probeImages(items, {
      workers: 1,
      signal: controller.signal,
      onProgress: () => controller.abort(new Error("stop")),
    });
    await expect(probe).rejects.toThrow("stop");
  });
});

describe("dropUnreadable", () => {
  test("keeps the rest and counts and names what was dropped", async () => {
    const dataset = await damagedDataset();
    const kept = dropUnreadable(dataset, await probeImages(dataset.items));
    expect(kept.items.map(({ key }) => key)).toEqual(["1_x/good.png", "1_x/good.jpg", "1_x/good.webp"]);
    expect(kept.warnings[0]).toBe("an earlier one");
    expect(kept.warnings[1]).toMatch(/^skipped 7 images that cannot be read, 3 left:/);
    expect(kept.warnings[1]).toContain(dataset.items[0]!.imagePath);
    expect(kept.warnings[1]).toContain("and 2 more");
  });

  test("is an error if none is left, and nothing if all are fine", async () => {
    const dataset = await damagedDataset();
    const bad = { ...dataset, items: dataset.items.slice(0, 1) };
    const result = await probeImages(bad.items);
    expect(() => dropUnreadable(bad, result)).toThrow(
      expect.objectContaining({ code: "E_DATA", message: expect.stringContaining(bad.items[0]!.imagePath) }),
    );
    const good = { ...dataset, items: dataset.items.slice(1, 2) };
    expect(dropUnreadable(good, await probeImages(good.items))).toBe(good);
  });
});
