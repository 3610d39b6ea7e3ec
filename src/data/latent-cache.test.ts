import { copyFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";
import { describe, expect, test } from "vitest";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import type { DatasetItem } from "./dataset.js";
import { loadImage } from "./image.js";
import { LatentCache, type LatentCacheOptions, type LatentMoments } from "./latent-cache.js";
import { DiskTensorCache, MemoryTensorCache } from "./tensor-cache.js";

const SIZE = { width: 16, height: 8 };

/** Stands for a VAE of factor 2 with one latent channel: the mean is the red plane of every other pixel. */
async function encodeRed(image: Float32Array, height: number, width: number): Promise<LatentMoments> {
  const mean = new Float32Array((height / 2) * (width / 2));
  for (let y = 0; y < height / 2; y++) {
    for (let x = 0; x < width / 2; x++) mean[(y * width) / 2 + x] = image[2 * y * width + 2 * x]!;
  }
  return { mean, logvar: mean.map((value) => -value), height: height / 2, width: width / 2 };
}

/** Three different pictures; the third has the content of the first under another name. */
async function makeItems(): Promise<{ dir: string; items: DatasetItem[] }> {
  const dir = await tempFolder();
  for (const [index, name] of ["a.png", "b.png"].entries()) {
    const pixels = Uint8Array.from({ length: 16 * 8 * 3 }, (_, i) => (i * (index + 5) * 37) % 256);
    await sharp(pixels, { raw: { width: 16, height: 8, channels: 3 } })
      .png()
      .toFile(join(dir, name));
  }
  await copyFile(join(dir, "a.png"), join(dir, "c.png"));
  const items = ["a.png", "b.png", "c.png"].map((name) => ({
    key: `1_x/${name}`,
    imagePath: join(dir, name),
    caption: "",
    repeats: 1,
    subset: "1_x",
  }));
  return { dir, items };
}

function latentCache(overrides: Partial<LatentCacheOptions> = {}): LatentCache {
  return new LatentCache({
    ...SIZE,
    cache: new MemoryTensorCache(),
    vaeIdentity: "vae 1",
    encode: encodeRed,
    ...overrides,
  });
}

/** What training without a cache would see. */
async function direct({ imagePath }: DatasetItem, flip: boolean): Promise<LatentMoments> {
  return encodeRed(await loadImage(imagePath, { ...SIZE, flip }), SIZE.height, SIZE.width);
}

describe.each(["memory", "disk"])("in %s", (kind) => {
  const open = async () =>
    kind === "memory" ? new MemoryTensorCache() : DiskTensorCache.open(join(await tempFolder(), "cache"));

  test("gives the moments that the encoder gives, computed once", async () => {
    const { items } = await makeItems();
    const latents = latentCache({ cache: await open() });
    const progress: string[] = [];
    await latents.fill(items, {
      flipAug: true,
      workers: 1,
      onProgress: (done, total) => progress.push(`${done}/${total}`),
    });
    expect(progress).toEqual(["1/6", "2/6", "3/6", "4/6", "5/6", "6/6"]);
    // Two contents, each plain and mirrored: the copy was found under the first one's key.
    expect(latents.computedCount).toBe(4);
    for (const item of items) {
      for (const flip of [false, true])
        expect(await latents.read(item, flip)).toEqual(await direct(item, flip));
    }
    expect(await latents.read(items[0]!, true)).not.toEqual(await latents.read(items[0]!, false));
    expect(latents.computedCount).toBe(4);
  });
});

describe("items in buckets", () => {
  const frame = { width: 8, height: 4, scaled: { width: 10, height: 5 } };

  test("are encoded at the size of their frames, size after size", async () => {
    const { items } = await makeItems();
    const encoded: string[] = [];
    const latents = latentCache({
      encode: (image, height, width) => {
        encoded.push(`${width}x${height}`);
        return encodeRed(image, height, width);
      },
    });
    const [first, second, third] = items as [DatasetItem, DatasetItem, DatasetItem];
    const mixed = [first, { ...second, frame }, { ...third, frame }];
    await latents.fill(mixed, { workers: 1 });
    expect(encoded).toEqual(["8x4", "8x4", "16x8"]);
    const image = await loadImage(second.imagePath, frame);
    expect(await latents.read(mixed[1]!, false)).toEqual(await encodeRed(image, 4, 8));
    expect(await latents.read(first, false)).toEqual(await direct(first, false));
  });

  test("have entries of their own for every way to the same size", async () => {
    const { items } = await makeItems();
    const latents = latentCache();
    const others = [
      { width: 9, height: 4 },
      { width: 16, height: 8 },
    ].map((scaled) => ({ ...frame, scaled }));
    for (const way of [undefined, frame, ...others]) {
      await latents.read({ ...items[0]!, ...(way && { frame: way }) }, false);
    }
    expect(latents.computedCount).toBe(4);
  });
});

describe("what an entry depends on", () => {
  test("the next run finds it; another size or VAE does not", async () => {
    const { items } = await makeItems();
    const cache = await DiskTensorCache.open(join(await tempFolder(), "cache"));
    await latentCache({ cache }).fill(items);
    const computedBy = async (overrides: Partial<LatentCacheOptions>) => {
      const next = latentCache({ cache, ...overrides });
      await next.fill(items);
      return next.computedCount;
    };
    expect(await computedBy({})).toBe(0);
    expect(await computedBy({ vaeIdentity: "vae 2" })).toBe(2);
    expect(await computedBy({ width: 8 })).toBe(2);
    expect(await computedBy({})).toBe(0);
  });

  test("a changed image is encoded anew, a renamed one is not", async () => {
    const { dir, items } = await makeItems();
    const cache = await DiskTensorCache.open(join(await tempFolder(), "cache"));
    await latentCache({ cache }).fill(items);
    await copyFile(join(dir, "b.png"), join(dir, "renamed.png"));
    await sharp({ create: { ...SIZE, channels: 3, background: "#ff0000" } })
      .png()
      .toFile(join(dir, "a.png"));
    const next = latentCache({ cache });
    const [changed] = items as [DatasetItem];
    expect(await next.read(changed, false)).toEqual(await direct(changed, false));
    expect(next.computedCount).toBe(1);
    await next.read({ ...changed, key: "10_y/renamed.png", imagePath: join(dir, "renamed.png") }, false);
    expect(next.computedCount).toBe(1);
  });

  test("a damaged or lost file is computed anew in the middle of a run", async () => {
    const { items } = await makeItems();
    const cacheDir = join(await tempFolder(), "cache");
    const latents = latentCache({ cache: await DiskTensorCache.open(cacheDir) });
    await latents.fill(items);
    for (const name of await readdir(cacheDir)) await writeFile(join(cacheDir, name), "damaged");
    expect(await latents.read(items[1]!, false)).toEqual(await direct(items[1]!, false));
    expect(latents.computedCount).toBe(3);
    expect(await latents.read(items[1]!, false)).toEqual(await direct(items[1]!, false));
    expect(latents.computedCount).toBe(3);
  });
});

describe("while filling", () => {
  test("the encoder never runs twice at once, and what it gets does not depend on the workers", async () => {
    const { items } = await makeItems();
    for (const workers of [0, 1, 8]) {
      let running = 0;
      const encode: LatentCacheOptions["encode"] = async (...args) => {
        expect(++running).toBe(1);
        await new Promise((resolve) => setTimeout(resolve, 2));
        running--;
        return encodeRed(...args);
      };
      const latents = latentCache({ encode });
      await latents.fill(items, { workers, flipAug: true });
      expect(latents.computedCount).toBe(4); // the copy of a picture is not encoded again beside it
      for (const item of items) expect(await latents.read(item, true)).toEqual(await direct(item, true));
    }
  });

  test("a moment that is not finite is an error that names the image, and is not cached", async () => {
    const { items } = await makeItems();
    const cacheDir = join(await tempFolder(), "cache");
    const encode: LatentCacheOptions["encode"] = async (...args) => {
      const moments = await encodeRed(...args);
      moments.logvar[3] = Number.NaN;
      return moments;
    };
    const latents = latentCache({ encode, cache: await DiskTensorCache.open(cacheDir) });
    await expect(latents.fill(items)).rejects.toMatchObject({
      code: "E_DIVERGED",
      message: expect.stringContaining(items[0]!.imagePath),
    });
    expect(await readdir(cacheDir)).toEqual([]);
  });

  test("an unreadable image is named, and an abort stops", async () => {
    const { dir, items } = await makeItems();
    const controller = new AbortController();
    const stopped = latentCache().fill(items, {
      workers: 0,
      signal: controller.signal,
      onProgress: () => controller.abort(new Error("stop")),
    });
    await expect(stopped).rejects.toThrow("stop");
    await writeFile(join(dir, "b.png"), "no image");
    await expect(latentCache().fill(items)).rejects.toMatchObject({
      code: "E_FORMAT",
      message: expect.stringContaining(join(dir, "b.png")),
    });
  });
});
