import { readdir, readFile, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { openAdapter } from "../../src/adapter/index.js";
import { planResize } from "../../src/surgery/resize/plan-resize.js";
import { resize } from "../../src/surgery/resize/resize.js";
import { everyKindOfModule, sd15Modules, writeRandomAdapter } from "../helpers/random-adapter.js";
import { runProgram } from "../helpers/run-program.js";
import { tempFolder } from "../helpers/temp-folder.js";

/** A folder with a LoRA of rank 12, its 3x3 convolutions of rank 6. */
async function folderWithAdapter(): Promise<string> {
  const folder = await tempFolder();
  await writeRandomAdapter(path.join(folder, "cat.safetensors"), { modules: everyKindOfModule(12, 6) });
  return folder;
}

const inFolder =
  (command: string) =>
  (cwd: string, ...args: string[]) =>
    runProgram([command, "cat.safetensors", ...args], { cwd });
const resizeIn = inFolder("resize");
const nestIn = inFolder("nest");

describe("dylora resize", () => {
  test("writes every file that was asked for in one pass, and says what each loses", async () => {
    const cwd = await folderWithAdapter();
    const { status, stdout, stderr } = await resizeIn(
      cwd,
      ...["--ranks", "4,2", "--dynamic-method", "sv_fro", "--dynamic-param", "0.9", "--target-size", "20kB"],
      ...["--out", "small"],
    );
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    const [head, titles, ...rows] = stdout.trimEnd().split("\n");
    expect(head).toBe("cat.safetensors: rank 12, 8 modules, written as F16");
    expect(titles).toMatch(/^by +rank +error +worst module +file +size +hash$/);
    expect(rows.map((row) => row.trim().split(/\s{2,}/)[0])).toEqual(["r2", "r4", "sv_fro0.9", "20kB"]);
    expect((await readdir(path.join(cwd, "small"))).sort()).toEqual([
      "cat-20kB.safetensors",
      "cat-r2.safetensors",
      "cat-r4.safetensors",
      "cat-sv_fro0.9.safetensors",
    ]);
    expect((await stat(path.join(cwd, "small", "cat-20kB.safetensors"))).size).toBeLessThanOrEqual(20_000);
    await using copy = await openAdapter(path.join(cwd, "small", "cat-r4.safetensors"));
    expect(copy.maxRank).toBe(4);
  });

  test("--dry-run --json has what the real run has, and writes nothing", async () => {
    const cwd = await folderWithAdapter();
    const args = ["--ranks", "4", "--conv-rank", "2", "--target-size", "25kB", "--dtype", "BF16", "--json"];
    const planned = JSON.parse((await resizeIn(cwd, ...args, "--dry-run")).stdout);
    expect(await readdir(cwd)).toEqual(["cat.safetensors"]);
    const written = JSON.parse((await resizeIn(cwd, ...args)).stdout);
    expect(planned).toMatchObject({ schemaVersion: 1, dtype: "BF16", dryRun: true });
    expect(written).toMatchObject({ schemaVersion: 1, dtype: "BF16", dryRun: false });
    const rounded = (_: string, value: unknown) =>
      typeof value === "number" ? Number(value.toPrecision(10)) : value;
    for (const [i, { dataSha256, ...output }] of written.outputs.entries()) {
      expect(dataSha256).toMatch(/^[0-9a-f]{64}$/);
      expect(JSON.stringify(planned.outputs[i], rounded)).toBe(JSON.stringify(output, rounded));
      expect((await readFile(output.path)).length).toBe(output.sizeBytes);
    }
  });

  test("--modules lists every module", async () => {
    const cwd = await folderWithAdapter();
    const { stdout } = await resizeIn(cwd, "--ranks", "6", "--modules", "--out", "dog.safetensors");
    expect(stdout).toMatch(/lora_unet_down_blocks_1_resnets_0_conv1 +6 of 6 +0\.00 %/);
    expect(stdout).toMatch(/_mlp_fc1 +6 of 12 +\d/);
    expect((await readdir(cwd)).sort()).toEqual(["cat.safetensors", "dog.safetensors"]);
  });

  test("files that exist stay unless --force is given", async () => {
    const cwd = await folderWithAdapter();
    await writeFile(path.join(cwd, "cat-r4.safetensors"), "mine");
    const refused = await resizeIn(cwd, "--ranks", "2,4");
    expect(refused).toMatchObject({ status: 2, stdout: "" });
    expect(refused.stderr).toContain("error[E_EXISTS]");
    expect((await readdir(cwd)).sort()).toEqual(["cat-r4.safetensors", "cat.safetensors"]);
    expect((await resizeIn(cwd, "--ranks", "2,4", "--force")).status).toBe(0);
    await using copy = await openAdapter(path.join(cwd, "cat-r4.safetensors"));
    expect(copy.maxRank).toBe(4);
  });

  test.each([
    [[], 2, "error[E_USAGE]: resize: no rank is chosen"],
    [["--ranks", "13"], 2, "error[E_RANK]: resize cat.safetensors: rank 13 is above the largest one, 12"],
    [
      ["--dynamic-method", "sv_fro"],
      2,
      "error[E_USAGE]: resize: --dynamic-method and --dynamic-param belong together",
    ],
    [["--conv-rank", "2", "--target-size", "1MB"], 2, "error[E_USAGE]: resize: --conv-rank needs --ranks"],
    [["--ranks", "4", "--max-rank", "2"], 2, "error[E_USAGE]: resize: --max-rank needs --dynamic-method"],
    [
      ["--target-size", "much"],
      2,
      'error[E_USAGE]: resize: --target-size expects a size such as 50MB or 48MiB, found "much"',
    ],
    [
      ["--target-size", "2kB"],
      2,
      "error[E_USAGE]: resize cat.safetensors: no file of 2000 bytes is possible",
    ],
    [
      ["--ranks", "2,4", "--out", "x.safetensors"],
      2,
      "error[E_USAGE]: resize: --out names one file, and 2 would be written",
    ],
    [
      ["--new_rank", "4"],
      2,
      "error[E_USAGE]: resize: unknown option --new_rank\n  note: Did you mean --ranks?",
    ],
    [["--ranks", "4", "--out", "cat.safetensors", "--force"], 2, "error[E_EXISTS]: resize: "],
  ])("refuses %j", async (args, status, stderr) => {
    const cwd = await folderWithAdapter();
    const before = await readFile(path.join(cwd, "cat.safetensors"));
    const result = await resizeIn(cwd, ...args);
    expect(result).toMatchObject({ status, stdout: "" });
    expect(result.stderr.slice(0, stderr.length)).toBe(stderr);
    expect(await readdir(cwd)).toEqual(["cat.safetensors"]);
    expect(await readFile(path.join(cwd, "cat.safetensors"))).toEqual(before);
  });

  test("several threads write what one thread writes", async () => {
    const cwd = await tempFolder();
    const parentPath = path.join(cwd, "cat.safetensors");
    // Above the size from which threads are used.
    const { sizeBytes } = await writeRandomAdapter(parentPath, { modules: sd15Modules(32) });
    expect(sizeBytes).toBeGreaterThan(34e6);
    const { status, stdout } = await resizeIn(cwd, "--ranks", "4", "--json");
    expect(status).toBe(0);
    await using parent = await openAdapter(parentPath);
    const alone = await resize(
      await planResize(parent, [{ kind: "rank", rank: 4 }], { path: path.join(cwd, "alone.safetensors") }),
    );
    expect(JSON.parse(stdout).outputs[0].dataSha256).toBe(alone.outputs[0]!.dataSha256);
  });
});

describe("dylora nest", () => {
  test("its ranks are there for extract", async () => {
    const cwd = await folderWithAdapter();
    const { status, stdout, stderr } = await nestIn(cwd, "--out", "nested.safetensors");
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toMatch(/^parent +cat\.safetensors\nfile +nested\.safetensors\n/);
    expect(stdout).toMatch(/\n +12 +0\.00 % +100\.0 %\n$/);
    const extracted = await runProgram(["extract", "nested.safetensors", "--ranks", "3,12"], { cwd });
    expect(extracted.stdout).toMatch(
      /^nested\.safetensors: rank 12, unit 1, alpha rule keep \(from its metadata\)/,
    );
    const compared = await runProgram(["compare", "cat.safetensors", "nested-r12.safetensors", "--json"], {
      cwd,
    });
    expect(JSON.parse(compared.stdout).totals[0].relativeDifference).toBeLessThan(1e-6);
  });

  test("--dry-run --json has the size of the file", async () => {
    const cwd = await folderWithAdapter();
    const args = ["--out", "nested.safetensors", "--dtype", "f16", "--json"];
    const planned = JSON.parse((await nestIn(cwd, ...args, "--dry-run")).stdout);
    expect(await readdir(cwd)).toEqual(["cat.safetensors"]);
    const written = JSON.parse((await nestIn(cwd, ...args)).stdout);
    expect(planned).toMatchObject({ sizeBytes: written.sizeBytes, dtype: "F16", maxRank: 12, dryRun: true });
    expect((await readFile(path.join(cwd, "nested.safetensors"))).length).toBe(written.sizeBytes);
    const again = await nestIn(cwd, ...args);
    expect(again).toMatchObject({ status: 2, stdout: "" });
    expect(JSON.parse(again.stderr).error.code).toBe("E_EXISTS");
  });
});

describe("dylora compare", () => {
  test("shows totals and the modules that differ most", async () => {
    const cwd = await folderWithAdapter();
    await writeRandomAdapter(path.join(cwd, "dog.safetensors"), {
      modules: everyKindOfModule(4).slice(1),
      seed: 9,
    });
    const { status, stdout } = await runProgram(["compare", "cat.safetensors", "dog.safetensors"], { cwd });
    expect(status).toBe(0);
    expect(stdout).toMatch(
      /^A {2}cat\.safetensors: rank 12, 8 modules\nB {2}dog\.safetensors: rank 4, 7 modules\n/,
    );
    expect(stdout).toMatch(
      /\ncomponent +modules +norm A +norm B +\|A-B\|\/\|A\| +cosine +outputs +inputs\nall +7 /,
    );
    expect(stdout).toContain("note: 1 module only in A: lora_unet_down_blocks_1_attentions_0_proj_in");
  });

  test("a file is equal to itself", async () => {
    const cwd = await folderWithAdapter();
    const { stdout } = await runProgram(["compare", "cat.safetensors", "cat.safetensors"], { cwd });
    expect(stdout).toMatch(/\nall +8 .* 0 % +1\.0000 +1\.000 +1\.000\n/);
  });

  test("takes two files", async () => {
    const cwd = await folderWithAdapter();
    const { status, stderr } = await runProgram(["compare", "cat.safetensors"], { cwd });
    expect(status).toBe(2);
    expect(stderr).toContain("error[E_USAGE]: compare: two files are needed, found 1");
  });
});

describe("dylora inspect", () => {
  test("a folder is a table, and what is no adapter stands below", async () => {
    const cwd = await folderWithAdapter();
    await writeRandomAdapter(path.join(cwd, "dog10.safetensors"), { dtype: "F32" });
    await writeRandomAdapter(path.join(cwd, "dog9.safetensors"), {
      metadata: { ss_network_module: "networks.dylora", ss_base_model_version: "sd_v1" },
    });
    await writeFile(path.join(cwd, "broken.safetensors"), "x");
    await writeFile(path.join(cwd, "notes.txt"), "x");
    const { status, stdout, stderr } = await runProgram(["inspect", "."], { cwd });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    const cells = stdout.split("\n").map((line) => line.trim().split(/\s{2,}/));
    expect(cells.slice(1, 5).map(([file, , ...rest]) => [file, ...rest])).toEqual([
      ["file", "base", "kind", "rank", "alpha", "modules", "type", "names"],
      ["cat.safetensors", "SD 1.x", "LoRA", "6-12", "4", "8", "F16", "kohya"],
      ["dog9.safetensors", "SD 1.x", "DyLoRA", "8", "4", "8", "F16", "kohya"],
      ["dog10.safetensors", "SD 1.x", "LoRA", "8", "4", "8", "F32", "kohya"],
    ]);
    expect(stdout).toContain("\nOther files\nbroken.safetensors  E_FORMAT: the file has 1 bytes");
    expect(stdout).not.toContain("notes.txt");
    const document = JSON.parse((await runProgram(["inspect", ".", "--json"], { cwd })).stdout);
    expect(document.files).toEqual([]);
    expect(document.folders[0].files.map((file: { path: string }) => path.basename(file.path))).toEqual([
      "broken.safetensors",
      "cat.safetensors",
      "dog9.safetensors",
      "dog10.safetensors",
    ]);
  });

  test("--spectrum tells which ranks are used", async () => {
    const cwd = await folderWithAdapter();
    const { status, stdout } = await runProgram(["inspect", "cat.safetensors", "--spectrum"], { cwd });
    expect(status).toBe(0);
    expect(stdout).toMatch(/\nRanks that are used\ncomponent +effective rank +90 % +95 % +99 %\nall +\d/);
    expect(stdout).toMatch(/\n +12 +100\.0 % +100\.0 % +100\.0 %\n/);
    const document = JSON.parse(
      (await runProgram(["inspect", "cat.safetensors", "--spectrum", "--json"], { cwd })).stdout,
    );
    expect(document.files[0].spectrum.modules[0].singularValues).toHaveLength(12);
  });
});
