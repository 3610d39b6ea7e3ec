import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { DYLORA, PAPER } from "../../../test/helpers/extract-file.js";
import { outDir, parentPath, run, useExtractFolder } from "../../../test/helpers/extract-folder.js";
import { mountTinyDisk } from "../../../test/helpers/full-disk.js";
import { writeRandomAdapter } from "../../../test/helpers/random-adapter.js";
import { openAdapter } from "../../adapter/index.js";

useExtractFolder();

describe("refused, and nothing written", () => {
  it("a rank that the file does not have", async () => {
    await writeRandomAdapter(parentPath, { metadata: PAPER });
    await expect(run({ ranks: [3] })).rejects.toMatchObject({ code: "E_RANK" });
    await expect(run({ ranks: [10] })).rejects.toMatchObject({ code: "E_RANK" });
    expect(existsSync(outDir)).toBe(false);
  });

  it("an unknown alpha rule, unless one is given", async () => {
    await writeRandomAdapter(parentPath, {
      metadata: { ...DYLORA, ss_network_args: '{"alpha_rule": "mine"}' },
    });
    await expect(run({ ranks: [4] })).rejects.toMatchObject({
      code: "E_INCOMPATIBLE",
      message: expect.stringContaining('unknown alpha_rule "mine"'),
      note: expect.stringContaining("--alpha-rule"),
    });
    expect((await run({ ranks: [4] }, { alphaRule: "paper" })).alphaRule).toBe("paper");
  });

  it("one existing copy of several", async () => {
    await writeRandomAdapter(parentPath);
    mkdirSync(outDir);
    writeFileSync(join(outDir, "cat-r4.safetensors"), "mine");
    await expect(run({ ranks: [2, 4] })).rejects.toMatchObject({ code: "E_EXISTS" });
    expect(readdirSync(outDir)).toEqual(["cat-r4.safetensors"]);
    expect(readFileSync(join(outDir, "cat-r4.safetensors"), "utf8")).toBe("mine");
    await run({ ranks: [2, 4] }, { overwrite: true });
    await using copy = await openAdapter(join(outDir, "cat-r4.safetensors"));
    expect(copy.maxRank).toBe(4);
  });

  it("a copy in place of its parent, even through a link", async () => {
    await writeRandomAdapter(parentPath);
    mkdirSync(outDir);
    symlinkSync(parentPath, join(outDir, "cat-r4.safetensors"));
    const before = readFileSync(parentPath);
    await expect(run({ ranks: [4] }, { overwrite: true })).rejects.toMatchObject({
      code: "E_EXISTS",
      message: expect.stringContaining("would replace the file it is taken from"),
    });
    expect(readFileSync(parentPath)).toEqual(before);
  });

  it("a stop in the middle", async () => {
    await writeRandomAdapter(parentPath);
    const controller = new AbortController();
    await expect(
      run({ all: true }, { signal: controller.signal, onProgress: () => controller.abort() }),
    ).rejects.toMatchObject({ code: "E_INTERRUPTED" });
    expect(readdirSync(outDir)).toEqual([]);
  });

  it("a folder that cannot be made", async () => {
    await writeRandomAdapter(parentPath);
    await expect(run({ ranks: [4] }, { outDir: join(parentPath, "sub") })).rejects.toMatchObject({
      code: "E_WRITE",
      note: expect.stringContaining("Nothing was written"),
    });
  });

  it("a disk with too little space", async (context) => {
    const disk = mountTinyDisk(64);
    if (disk === null) return context.skip("this user may not mount a tmpfs");
    try {
      await writeRandomAdapter(parentPath, { dtype: "F64" });
      await expect(run({ all: true }, { outDir: disk.path })).rejects.toMatchObject({
        code: "E_WRITE",
        message: expect.stringMatching(/the copies take \d+ bytes, and the disk has \d+ free/),
      });
      expect(readdirSync(disk.path)).toEqual([]);
    } finally {
      disk.remove();
    }
  });
});
