import { readdir, readFile, rename, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { mountTinyDisk } from "../../test/helpers/full-disk.js";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import { writeSafetensors } from "../safetensors/index.js";
import { cacheKey, DiskTensorCache, MemoryTensorCache, type TensorRecord } from "./tensor-cache.js";

const KEY = cacheKey("test", { a: 1 });
const RECORD: TensorRecord = {
  mean: { shape: [2, 3], data: Float32Array.of(1, -2.5, 3e-30, 0, -0, 1 / 3) },
  logvar: { shape: [1], data: Float32Array.of(-30) },
};

describe("cacheKey", () => {
  test("depends on the kind, on every name and on every value", () => {
    const keys = [
      cacheKey("x", { a: 1, b: "2" }),
      cacheKey("y", { a: 1, b: "2" }),
      cacheKey("x", { a: 1, c: "2" }),
      cacheKey("x", { a: 1, b: 2 }),
      cacheKey("x", { a: 12, b: "" }),
      cacheKey("x", { a: [1, 2] }),
      cacheKey("x", { a: "1,2" }),
      cacheKey("x", { a: true }),
    ];
    expect(new Set(keys).size).toBe(keys.length);
    expect(cacheKey("x", { a: 1, b: "2" })).toBe(keys[0]);
    expect(keys[0]).toMatch(/^[0-9a-f]{64}$/);
  });
});

test("MemoryTensorCache gives back what was put", async () => {
  const cache = new MemoryTensorCache();
  expect(await cache.get(KEY)).toBeNull();
  await cache.put(KEY, RECORD);
  expect(await cache.get(KEY)).toEqual(RECORD);
});

describe("DiskTensorCache", () => {
  async function filled() {
    const dir = join(await tempFolder(), "deep", "cache");
    const cache = await DiskTensorCache.open(dir);
    await cache.put(KEY, RECORD);
    return { dir, cache, path: join(dir, `${KEY}.safetensors`) };
  }

  test("gives back what another process put, bit for bit", async () => {
    const { dir } = await filled();
    const reopened = await DiskTensorCache.open(dir);
    const record = await reopened.get(KEY);
    expect(record).toEqual(RECORD);
    expect(Object.is(record?.mean?.data[4], -0)).toBe(true);
    expect(await reopened.get(cacheKey("test", { a: 2 }))).toBeNull();
    expect(await readdir(dir)).toEqual([`${KEY}.safetensors`]); // no temporary files left
  });

  test("does not trust a damaged file, whichever byte it is", async () => {
    const { cache, path } = await filled();
    const good = await readFile(path);
    for (let position = 0; position < good.length; position++) {
      const bad = Buffer.from(good);
      bad[position]! ^= 0x10;
      await writeFile(path, bad);
      expect(await cache.get(KEY), `byte ${position}`).toBeNull();
    }
    await cache.put(KEY, RECORD);
    expect(await readFile(path)).toEqual(good);
  });

  test("does not trust a truncated, empty or foreign file", async () => {
    const { cache, dir, path } = await filled();
    const { size } = await stat(path);
    for (const length of [size - 1, Math.floor(size / 2), 8, 0]) {
      await truncate(path, length);
      expect(await cache.get(KEY)).toBeNull();
    }
    await writeFile(path, "not safetensors at all");
    expect(await cache.get(KEY)).toBeNull();
    // A valid file of someone else's.
    const data = async () => new Uint8Array(8);
    await writeSafetensors(path, [{ name: "mean", dtype: "F32", shape: [2], data }], { overwrite: true });
    expect(await cache.get(KEY)).toBeNull();
    // A valid entry under another entry's name.
    const otherKey = cacheKey("test", { a: 2 });
    await cache.put(otherKey, RECORD);
    await rename(join(dir, `${otherKey}.safetensors`), path);
    expect(await cache.get(KEY)).toBeNull();
  });

  test("names the folder and the way out where it cannot be made", async () => {
    const dir = await tempFolder({ file: "" });
    await expect(DiskTensorCache.open(join(dir, "file", "cache"))).rejects.toMatchObject({
      code: "E_WRITE",
      message: expect.stringContaining(join(dir, "file", "cache")),
      note: expect.stringContaining("--cache_latents"),
    });
  });

  test("a full disk leaves no half entry", async (context) => {
    const disk = mountTinyDisk(64);
    if (disk === null) return context.skip("cannot mount a tmpfs here");
    try {
      const cache = await DiskTensorCache.open(disk.path);
      const large: TensorRecord = { x: { shape: [50_000], data: new Float32Array(50_000) } };
      await expect(cache.put(KEY, large)).rejects.toMatchObject({
        code: "E_WRITE",
        message: expect.stringContaining(disk.path),
      });
      expect(await readdir(disk.path)).toEqual([]);
    } finally {
      disk.remove();
    }
  });
});
