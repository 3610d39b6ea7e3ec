import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { openAdapter } from "../src/adapter/index.js";
import { fileProducts, weightedSum } from "./helpers/file-products.js";
import { relativeDifference } from "./helpers/matrix.js";
import { everyKindOfModule, writeRandomAdapter } from "./helpers/random-adapter.js";
import { modulesForModel, writeRandomDiffusers, writeRandomSingleFile } from "./helpers/random-checkpoint.js";
import { runInProcess } from "./helpers/run-in-process.js";
import { tempFolder } from "./helpers/temp-folder.js";
import { SD1_TINY } from "./helpers/tiny-checkpoints.js";

async function twoAdapters(): Promise<string> {
  const cwd = await tempFolder();
  await writeRandomAdapter(path.join(cwd, "cat.safetensors"), {
    modules: everyKindOfModule(8),
    dtype: "F32",
  });
  await writeRandomAdapter(path.join(cwd, "ink.safetensors"), {
    modules: everyKindOfModule(4),
    dtype: "F32",
    seed: 70,
  });
  return cwd;
}

const merge = (cwd: string, ...args: string[]) => runInProcess(["merge", ...args], { cwd });

describe("dylora merge", () => {
  test.each([[["--ratios", "0.5", "-2"]], [["--ratios", "0.5,-2"]], [["--ratios=0.5,-2"]]])(
    "%j",
    async (ratios) => {
      const cwd = await twoAdapters();
      const { status, stdout, stderr } = await merge(
        cwd,
        "cat.safetensors",
        "ink.safetensors",
        ...ratios,
        "--out",
        "both.safetensors",
      );
      expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
      const lines = stdout
        .trimEnd()
        .split("\n")
        .map((line) => line.trim().split(/\s{2,}/));
      expect(lines.slice(0, 3)).toEqual([
        ["ratio", "rank", "modules", "adapter"],
        ["0.5", "8", "8", "cat.safetensors"],
        ["-2", "4", "8", "ink.safetensors"],
      ]);
      expect(lines).toContainEqual(["file", "both.safetensors"]);
      expect(lines).toContainEqual(["rank", "12"]);
      const [cat, ink, both] = await Promise.all(
        ["cat", "ink", "both"].map((name) => fileProducts(path.join(cwd, `${name}.safetensors`))),
      );
      for (const [name, product] of both!) {
        const expected = weightedSum([
          [0.5, cat!.get(name)!],
          [-2, ink!.get(name)!],
        ]);
        expect(relativeDifference(product, expected)).toBeLessThan(1e-6);
      }
    },
  );

  test.each([
    [["--ratios", "-0.5,2", "--out", "both.safetensors"]],
    [["--ratios", "-0.5", "2", "--out", "both.safetensors"]],
    [["--out", "both.safetensors", "--ratios", "-.5,2"]],
    [["--block-weights", `-0.5${",-0.5".repeat(16)}`, "2", "--out", "both.safetensors"]],
    [["--block_weights", `[-0.5${", -0.5".repeat(16)}]`, "ALL=2", "--out", "both.safetensors"]],
  ])("values that begin with a minus are no options: %j", async (args) => {
    const cwd = await twoAdapters();
    const done = await merge(cwd, "cat.safetensors", "ink.safetensors", ...args);
    expect(done).toMatchObject({ status: 0, stderr: "" });
    const [cat, ink, both] = await Promise.all(
      ["cat", "ink", "both"].map((name) => fileProducts(path.join(cwd, `${name}.safetensors`))),
    );
    const name = "lora_te_text_model_encoder_layers_0_mlp_fc1";
    const expected = weightedSum([
      [-0.5, cat!.get(name)!],
      [2, ink!.get(name)!],
    ]);
    expect(relativeDifference(both!.get(name)!, expected)).toBeLessThan(1e-6);
  });

  test("--rank, --dtype and --block-weights, as JSON; a dry run tells the same size", async () => {
    const cwd = await twoAdapters();
    const args = [
      "cat.safetensors",
      "ink.safetensors",
      "--rank",
      "3",
      "--dtype",
      "fp16",
      "--block-weights",
      "1",
      "TE=0",
      "--out",
      "both.safetensors",
      "--json",
    ];
    const planned = JSON.parse((await merge(cwd, ...args, "--dry-run")).stdout);
    expect(planned).toMatchObject({
      schemaVersion: 1,
      dryRun: true,
      ranks: [3, 3],
      dtype: "F16",
      moduleCount: 8,
    });
    expect((await readdir(cwd)).sort()).toEqual(["cat.safetensors", "ink.safetensors"]);
    const done = JSON.parse((await merge(cwd, ...args)).stdout);
    expect(done).toMatchObject({
      dryRun: false,
      ranks: [3, 3],
      sizeBytes: planned.sizeBytes,
      worstTruncation: { error: expect.any(Number) },
    });
    expect((await readFile(done.path)).length).toBe(done.sizeBytes);
    await using both = await openAdapter(done.path);
    expect(both.metadata["modelspec.merged_from"]).toBe("cat, ink");
  });

  test("--into a file and a diffusers folder", async () => {
    const cwd = await tempFolder();
    await writeRandomSingleFile(path.join(cwd, "base.safetensors"), SD1_TINY, "F16");
    await writeRandomDiffusers(path.join(cwd, "base"), SD1_TINY, "F16");
    await writeRandomAdapter(path.join(cwd, "cat.safetensors"), { modules: modulesForModel(SD1_TINY, 2) });
    const file = await merge(
      cwd,
      "cat.safetensors",
      "--into",
      "base.safetensors",
      "--out",
      "merged.safetensors",
    );
    expect(file).toMatchObject({ status: 0, stderr: "" });
    expect(file.stdout).toContain("changed");
    const folder = await merge(cwd, "cat.safetensors", "--into", "base", "--out", "merged", "--json");
    expect(folder.status).toBe(0);
    const report = JSON.parse(folder.stdout);
    expect(report).toMatchObject({
      layout: "diffusers",
      changedModules: modulesForModel(SD1_TINY, 1).length,
    });
    const planned = JSON.parse(
      (await merge(cwd, "cat.safetensors", "--into", "base", "--out", "x", "--json", "--dry-run")).stdout,
    );
    expect(planned).toMatchObject({ dryRun: true, changedTensors: report.changedTensors });
    expect((await readdir(cwd)).sort()).toEqual([
      "base",
      "base.safetensors",
      "cat.safetensors",
      "merged",
      "merged.safetensors",
    ]);
    const again = await merge(cwd, "cat.safetensors", "--into", "base", "--out", "merged");
    expect(again.status).toBe(2);
    expect(again.stderr).toContain("error[E_EXISTS]");
    expect((await merge(cwd, "cat.safetensors", "--into", "base", "--out", "merged", "--force")).status).toBe(
      0,
    );
  });
});

describe("what it refuses, with its exit code and nothing written", () => {
  test.each([
    [["cat.safetensors"], 2, "error[E_USAGE]: merge: --out is missing"],
    [
      ["cat.safetensors", "--ratios", "1", "2", "--out", "x"],
      2,
      "error[E_USAGE]: merge: --ratios: 2 numbers for 1 file",
    ],
    [
      ["cat.safetensors", "--ratios", "strong", "--out", "x"],
      2,
      'error[E_USAGE]: merge: --ratios: "strong" is no number',
    ],
    [
      ["cat.safetensors", "--block-weights", "1,2", "--out", "x"],
      2,
      "error[E_USAGE]: merge: block weights: 2 values in 1,2",
    ],
    [
      ["cat.safetensors", "--into", "m", "--rank", "4", "--out", "x"],
      2,
      "error[E_USAGE]: merge: --rank has no meaning with --into",
    ],
    [["cat.safetensors", "--into", "none.safetensors", "--out", "x"], 3, "error[E_NOT_FOUND]"],
    [["none.safetensors", "--out", "x"], 3, "error[E_NOT_FOUND]"],
    [["cat.safetensors", "--out", "cat.safetensors", "--force"], 2, "error[E_EXISTS]: merge: "],
    [["cat.safetensors", "--out", "mine"], 2, "error[E_EXISTS]"],
    [["cat.safetensors", "--out", "folder", "--force"], 1, "error[E_WRITE]"],
  ])("%j", async (args, status, stderr) => {
    const cwd = await twoAdapters();
    await writeFile(path.join(cwd, "mine"), "mine");
    await mkdir(path.join(cwd, "folder"));
    const before = await readFile(path.join(cwd, "cat.safetensors"));
    const result = await merge(cwd, ...args);
    expect(result).toMatchObject({ status, stdout: "" });
    expect(result.stderr.slice(0, stderr.length)).toBe(stderr);
    expect((await readdir(cwd)).sort()).toEqual(["cat.safetensors", "folder", "ink.safetensors", "mine"]);
    expect(Buffer.compare(await readFile(path.join(cwd, "cat.safetensors")), before)).toBe(0);
  });
});
