/** `diff`, `edit` and `verify` as a user runs them. */
import { readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { openAdapter } from "../src/adapter/index.js";
import { readHeader } from "../src/safetensors/index.js";
import { writeRandomAdapter } from "./helpers/random-adapter.js";
import { modulesForModel, writeRandomSingleFile } from "./helpers/random-checkpoint.js";
import { runInProcess } from "./helpers/run-in-process.js";
import { tempFolder } from "./helpers/temp-folder.js";
import { SD1_TINY } from "./helpers/tiny-checkpoints.js";

describe("dylora diff", () => {
  test("compares, writes, and lists what a LoRA cannot hold", async () => {
    const cwd = await tempFolder();
    const at = (name: string) => path.join(cwd, name);
    const run = (...args: string[]) => runInProcess(args, { cwd });
    await writeRandomSingleFile(at("base.safetensors"), SD1_TINY, "F16");
    await writeRandomAdapter(at("cat.safetensors"), { modules: modulesForModel(SD1_TINY, 2) });
    await run("merge", "cat.safetensors", "--into", "base.safetensors", "--out", "tuned.safetensors");
    const bytes = await readFile(at("tuned.safetensors"));
    const { tensors } = await readHeader(at("tuned.safetensors"));
    bytes[tensors.get("model.diffusion_model.out.0.weight")!.offsetBytes]! ^= 0xff;
    await writeFile(at("tuned.safetensors"), bytes);

    const looked = await run(
      "diff",
      "base.safetensors",
      "tuned.safetensors",
      "--rank",
      "2",
      "--out",
      "d.safetensors",
      "--dry-run",
    );
    expect(looked).toMatchObject({ status: 0, stderr: "" });
    expect(looked.stdout).toContain("Nothing was written (--dry-run)");
    expect(await readdir(cwd)).not.toContain("d.safetensors");

    const written = await run(
      "diff",
      "base.safetensors",
      "tuned.safetensors",
      "--rank",
      "2",
      "--out",
      "d.safetensors",
    );
    expect(written).toMatchObject({ status: 0, stderr: "" });
    expect(written.stdout).toMatch(/^size +[\d.]+ kB, \d+ modules$/m);
    expect(written.stdout).toMatch(
      /^left out +[\d.]+ % of the change: what no module of the file stands for$/m,
    );
    expect(written.stdout).toMatch(/unet conv3x3 +\d+ +2 /);
    expect(written.stdout).toContain(
      "Different, and nothing that a LoRA can hold (1):\n  unet conv_norm_out.weight: ",
    );
    await using adapter = await openAdapter(at("d.safetensors"));
    expect(adapter.modules.length).toBe(modulesForModel(SD1_TINY, 1).length);

    const json = await run(
      "diff",
      "base.safetensors",
      "tuned.safetensors",
      "--energy",
      "0.9",
      "--out",
      "e.safetensors",
      "--json",
    );
    expect(JSON.parse(json.stdout)).toMatchObject({
      schemaVersion: 1,
      dryRun: false,
      notRepresented: [{ part: "unet" }],
    });
    for (const [args, status, message] of [
      [["base.safetensors", "tuned.safetensors", "--out", "x"], 2, "error[E_USAGE]: diff: no rank is chosen"],
      [
        ["base.safetensors", "--rank", "2", "--out", "x"],
        2,
        "error[E_USAGE]: diff: two models are needed, found 1",
      ],
      [["base.safetensors", "base.safetensors", "--rank", "2", "--out", "x"], 3, "error[E_INCOMPATIBLE]"],
      [
        ["base.safetensors", "tuned.safetensors", "--rank", "2", "--out", "d.safetensors"],
        2,
        "error[E_EXISTS]",
      ],
    ] as const) {
      const refused = await run("diff", ...args);
      expect(refused).toMatchObject({ status, stdout: "" });
      expect(refused.stderr.slice(0, message.length)).toBe(message);
    }
  });
});

describe("dylora edit", () => {
  async function adapterFolder() {
    const cwd = await tempFolder();
    await writeRandomAdapter(path.join(cwd, "cat.safetensors"), {
      hashes: true,
      metadata: { ss_dataset_dirs: "/home/me", "modelspec.title": "cat", evil: "\x1b[2J" },
    });
    return { cwd, run: (...args: string[]) => runInProcess(["edit", "cat.safetensors", ...args], { cwd }) };
  }

  test("--show prints everything, and nothing that a terminal obeys", async () => {
    const { run } = await adapterFolder();
    const { status, stdout } = await run("--show");
    expect(status).toBe(0);
    expect(stdout).toMatch(
      /^ss_dataset_dirs +\/home\/me\nmodelspec.title +cat\nevil +\\u001b\[2J\nsshs_model_hash +[0-9a-f]{64}\n/,
    );
    expect(JSON.parse((await run("--show", "--json")).stdout)).toMatchObject({
      metadata: { "modelspec.title": "cat" },
    });
  });

  test("--set, --set-json and --remove, in place or elsewhere", async () => {
    const { cwd, run } = await adapterFolder();
    const before = await readHeader(path.join(cwd, "cat.safetensors"));
    await writeFile(path.join(cwd, "new.json"), JSON.stringify({ a: "json", b: "json" }));
    const args = [
      "--set",
      "modelspec.title=My cat=1",
      "a=flag",
      "--set-json",
      "new.json",
      "--remove",
      "ss_dataset_*",
      "evil",
    ];
    const dry = await run(...args, "--dry-run");
    expect(dry.stdout).toBe(
      "  - ss_dataset_dirs: /home/me\n  ~ modelspec.title: cat -> My cat=1\n  - evil: \\u001b[2J\n  + a: flag\n  + b: json\nNothing was written (--dry-run).\n",
    );
    expect(await run(...args, "--in-place")).toMatchObject({ status: 0, stderr: "" });
    const after = await readHeader(path.join(cwd, "cat.safetensors"));
    expect(after.metadata).toMatchObject({
      "modelspec.title": "My cat=1",
      a: "flag",
      b: "json",
      sshs_model_hash: before.metadata!.sshs_model_hash,
    });
    expect(after.metadata).not.toHaveProperty("evil");
    const report = JSON.parse((await run("--remove", "*", "--out", "bare.safetensors", "--json")).stdout);
    expect(report).toMatchObject({ dryRun: false, hashMatched: true });
    expect((await readHeader(path.join(cwd, "bare.safetensors"))).metadata).toBeNull();
    expect((await readdir(cwd)).sort()).toEqual(["bare.safetensors", "cat.safetensors", "new.json"]);
  });

  test.each([
    [[], "edit: nothing to do"],
    [["--show", "--remove", "evil"], "edit: --show excludes --set and --remove"],
    [["--set", "a=b"], "edit: it is not said where to write"],
    [["--set", "a=b", "--in-place", "--out", "x"], "edit: --in-place and --out exclude each other"],
    [["--set", "ab", "--in-place"], 'edit: --set: "ab" is no KEY=VALUE'],
    [["--remove", "none", "--in-place"], 'edit cat.safetensors: no metadata key fits "none"'],
    [["--set-json", "cat.safetensors", "--in-place"], "edit: --set-json: "],
  ])("%j is refused", async (args, message) => {
    const { cwd, run } = await adapterFolder();
    const before = await readFile(path.join(cwd, "cat.safetensors"));
    const result = await run(...args);
    expect(result).toMatchObject({ status: 2, stdout: "" });
    expect(result.stderr).toContain(`error[E_USAGE]: ${message}`);
    expect(Buffer.compare(await readFile(path.join(cwd, "cat.safetensors")), before)).toBe(0);
    expect(await readdir(cwd)).toEqual(["cat.safetensors"]);
  });
});

describe("dylora verify", () => {
  test("exit status 0 without errors, 3 with errors, and with --strict for warnings", async () => {
    const cwd = await tempFolder();
    const at = (name: string) => path.join(cwd, name);
    const run = (...args: string[]) => runInProcess(["verify", ...args], { cwd });
    await writeRandomAdapter(at("good.safetensors"), { modules: modulesForModel(SD1_TINY, 2) });
    await writeRandomAdapter(at("odd.safetensors"), { metadata: { ss_network_dim: "64" } });
    await writeRandomSingleFile(at("base.safetensors"), SD1_TINY, "F16");
    await writeFile(at("broken.safetensors"), (await readFile(at("good.safetensors"))).subarray(0, 9000));

    const good = await run("good.safetensors");
    expect(good).toMatchObject({ status: 0, stderr: "" });
    expect(good.stdout).toMatch(/^good.safetensors: ok \(LoRA, \d+ modules\)\n$/);
    const odd = await run("odd.safetensors");
    expect(odd.status).toBe(0);
    expect(odd.stdout).toMatch(
      /^odd.safetensors: ok \(LoRA, 8 modules\), 1 warning\n {2}warning\[metadata-rank\]: /,
    );
    expect((await run("odd.safetensors", "--strict")).status).toBe(3);
    expect((await run("good.safetensors", "base.safetensors", "--strict")).status).toBe(0);

    const fits = await run("good.safetensors", "--pretrained_model_name_or_path", "base.safetensors");
    expect(fits.status).toBe(0);
    expect(fits.stdout).toContain("note[base-coverage]");
    const misfit = await run("odd.safetensors", "--pretrained-model-name-or-path", "base.safetensors");
    expect(misfit.status).toBe(3);
    expect(misfit.stdout).toContain("error[base-mismatch]");

    const several = await run("good.safetensors", "broken.safetensors", "none.safetensors", "--json");
    expect(several.status).toBe(3);
    expect(JSON.parse(several.stdout).files.map(({ ok }: { ok: boolean }) => ok)).toEqual([true, false]);
    expect(JSON.parse(several.stderr)).toMatchObject({ error: { code: "E_NOT_FOUND" } });
  });
});
