import { mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { mergeFiles as merge } from "../../../test/helpers/merge-files.js";
import {
  everyKindOfModule,
  type RandomModule,
  writeRandomAdapter,
} from "../../../test/helpers/random-adapter.js";
import { tempFolder } from "../../../test/helpers/temp-folder.js";

describe("what it refuses, with nothing written", () => {
  async function twoAdapters() {
    const folder = await tempFolder();
    const a = join(folder, "a.safetensors");
    await writeRandomAdapter(a);
    return { folder, a, path: join(folder, "sum.safetensors") };
  }

  test("ratios of 0 and block weights that leave nothing", async () => {
    const { folder, a, path } = await twoAdapters();
    await expect(merge([{ path: a, ratio: 0 }], { path })).rejects.toMatchObject({ code: "E_USAGE" });
    await expect(merge([{ path: a, ratio: Number.NaN }], { path })).rejects.toMatchObject({
      code: "E_USAGE",
    });
    await expect(merge([{ path: a, ratio: 1e-300 }], { path })).rejects.toMatchObject({ code: "E_USAGE" });
    await expect(merge([], { path })).rejects.toMatchObject({ code: "E_USAGE" });
    expect(await readdir(folder)).toEqual(["a.safetensors"]);
  });

  test("adapters of different base models", async () => {
    const { folder, a, path } = await twoAdapters();
    const b = join(folder, "b.safetensors");
    const mergeBoth = () =>
      merge(
        [a, b].map((input) => ({ path: input, ratio: 1 })),
        { path },
      );
    const modules = everyKindOfModule(4).map((module) => ({
      ...module,
      inFeatures: module.inFeatures === 768 ? 1024 : module.inFeatures,
    }));
    await writeRandomAdapter(b, { modules });
    await expect(mergeBoth()).rejects.toMatchObject({
      code: "E_INCOMPATIBLE",
      message: expect.stringContaining("made for Stable Diffusion 1.x"),
    });
    const modulesOfOtherWidth = everyKindOfModule(4).map((module) => ({ ...module, outFeatures: 99 }));
    await writeRandomAdapter(b, { modules: modulesOfOtherWidth });
    await expect(mergeBoth()).rejects.toMatchObject({
      code: "E_INCOMPATIBLE",
      message: expect.stringContaining("-> 99"),
    });
    expect((await readdir(folder)).sort()).toEqual(["a.safetensors", "b.safetensors"]);
  });

  test("an existing file without overwrite, and an input even with it", async () => {
    const { folder, a, path } = await twoAdapters();
    await writeFile(path, "mine");
    await expect(merge([{ path: a, ratio: 1 }], { path })).rejects.toMatchObject({ code: "E_EXISTS" });
    const before = await readFile(a);
    const link = join(folder, "link.safetensors");
    await symlink(a, link);
    for (const target of [a, link]) {
      const merging = merge([{ path: a, ratio: 2 }], { path: target, overwrite: true });
      await expect(merging).rejects.toMatchObject({ code: "E_EXISTS" });
    }
    expect(Buffer.compare(await readFile(a), before)).toBe(0);
    expect(await readFile(path, "utf8")).toBe("mine");
  });

  test("a number that the type cannot hold", async () => {
    const { folder, a, path } = await twoAdapters();
    const big = join(folder, "big.safetensors");
    await mkdir(join(folder, "out"));
    const module: RandomModule = {
      name: "lora_unet_mid_block_attentions_0_proj_in",
      kind: "linear",
      rank: 1,
      inFeatures: 4,
      outFeatures: 4,
    };
    const { writeSafetensors } = await import("../../safetensors/index.js");
    const values = new Float32Array(4).fill(1e6);
    await writeSafetensors(big, [
      {
        name: `${module.name}.lora_down.weight`,
        dtype: "F32",
        shape: [1, 4],
        data: () => new Uint8Array(values.buffer),
      },
      {
        name: `${module.name}.lora_up.weight`,
        dtype: "F32",
        shape: [4, 1],
        data: () => new Uint8Array(values.buffer),
      },
    ]);
    const merging = merge(
      [
        { path: a, ratio: 1 },
        { path: big, ratio: 1 },
      ],
      { path, dtype: "F16" },
    );
    await expect(merging).rejects.toMatchObject({ code: "E_INCOMPATIBLE" });
    expect((await readdir(folder)).sort()).toEqual(["a.safetensors", "big.safetensors", "out"]);
  });

  test("an interrupted merge", async () => {
    const { folder, a, path } = await twoAdapters();
    const merging = merge([{ path: a, ratio: 1 }], { path, signal: AbortSignal.abort() });
    await expect(merging).rejects.toMatchObject({ code: "E_INTERRUPTED" });
    expect(await readdir(folder)).toEqual(["a.safetensors"]);
  });
});
