import { readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { everyKindOfModule, writeRandomAdapter } from "../helpers/random-adapter.js";
import { runProgram } from "../helpers/run-program.js";
import { tempFolder } from "../helpers/temp-folder.js";
import { writeTensors } from "../helpers/write-tensors.js";

async function folderWithLora(): Promise<string> {
  const folder = await tempFolder();
  await writeRandomAdapter(path.join(folder, "cat.safetensors"), { modules: everyKindOfModule(4) });
  return folder;
}

describe("dylora convert", () => {
  test("there and back, and says what it did", async () => {
    const cwd = await folderWithLora();
    const there = await runProgram(
      ["convert", "cat.safetensors", "--to", "diffusers", "--out", "there.safetensors"],
      { cwd },
    );
    expect(there).toMatchObject({ status: 0, stderr: "" });
    const [head, titles, row, note] = there.stdout.split("\n");
    expect(head).toBe("cat.safetensors: kohya (sd-scripts) to diffusers, 8 modules mapped");
    expect(titles).toMatch(/^file +size +hash$/);
    expect(row).toMatch(/^there\.safetensors +[\d.]+ kB +[0-9a-f]{12}$/);
    // Alpha is 4, the rank: nothing that an older diffusers would get wrong.
    expect(note).toBe("");
    const back = await runProgram(
      ["convert", "there.safetensors", "--to", "KOHYA", "--out", "back.safetensors", "--json"],
      { cwd },
    );
    expect(back).toMatchObject({ status: 0, stderr: "" });
    expect(JSON.parse(back.stdout)).toMatchObject({
      schemaVersion: 1,
      source: { path: "there.safetensors", dialect: "diffusers" },
      to: "kohya",
      mappedModules: 8,
      unmapped: [],
      returns: true,
      dryRun: false,
      outputs: [
        { path: path.join(cwd, "back.safetensors"), dataSha256: expect.stringMatching(/^[0-9a-f]{64}$/) },
      ],
    });
    const [original, returned] = await Promise.all(
      ["cat", "back"].map((name) => readFile(path.join(cwd, `${name}.safetensors`))),
    );
    expect(returned!.equals(original!)).toBe(true);
  });

  test("to a folder of PEFT's, and inspect reads it", async () => {
    const cwd = await folderWithLora();
    const { status, stdout } = await runProgram(
      ["convert", "cat.safetensors", "--to", "peft", "--out", "cat"],
      { cwd },
    );
    expect(status).toBe(0);
    expect(stdout).toContain(path.join("cat", "unet", "adapter_model.safetensors"));
    expect((await readdir(path.join(cwd, "cat"))).sort()).toEqual(["text_encoder", "unet"]);
    const report = JSON.parse((await runProgram(["inspect", "cat", "--json"], { cwd })).stdout);
    expect(report.files[0]).toMatchObject({ dialect: "peft", modules: { length: 8 } });
    expect(report.files[0].modules[0].name).toMatch(/^lora_unet_/);
  });

  test("--dry-run shows the files and writes none", async () => {
    const cwd = await folderWithLora();
    const args = ["convert", "cat.safetensors", "--to", "peft", "--out", "cat", "--dry-run"];
    const { status, stdout } = await runProgram(args, { cwd });
    expect(status).toBe(0);
    expect(stdout).toContain("Nothing was written (--dry-run).");
    const document = JSON.parse((await runProgram([...args, "--json"], { cwd })).stdout);
    expect(document).toMatchObject({ dryRun: true, wouldBeRefused: false, outputs: { length: 2 } });
    expect(await readdir(cwd)).toEqual(["cat.safetensors"]);
  });
});

describe("what it refuses, each with its exit code and nothing written", () => {
  test.each([
    [[], 2, "error[E_USAGE]: convert: --to and --out are missing"],
    [
      ["--to", "civitai", "--out", "x"],
      2,
      'error[E_USAGE]: convert: --to expects one of kohya, diffusers, peft, found "civitai"',
    ],
    [["--to", "peft", "--out", "cat.safetensors"], 2, "error[E_EXISTS]: convert cat.safetensors:"],
    [
      ["--to", "diffusers", "--out", "cat.safetensors", "--force"],
      2,
      "error[E_EXISTS]: convert cat.safetensors:",
    ],
    [["--to", "diffusers", "--out", "no/such/folder/x"], 1, "error[E_WRITE]:"],
  ])("%j", async (args, status, stderr) => {
    const cwd = await folderWithLora();
    const result = await runProgram(["convert", "cat.safetensors", ...args], { cwd });
    expect(result).toMatchObject({ status, stdout: "" });
    expect(result.stderr.slice(0, stderr.length)).toBe(stderr);
    expect(await readdir(cwd)).toEqual(["cat.safetensors"]);
  });

  test("modules without a name there, unless they are carried over", async () => {
    const cwd = await tempFolder();
    const module = "lora_unet_mid_block_attentions_0_proj_in";
    await writeTensors(path.join(cwd, "mixed.safetensors"), [
      { name: `${module}.lora_down.weight`, shape: [2, 3] },
      { name: `${module}.lora_up.weight`, shape: [3, 2] },
      { name: "lora_unet_x.hada_w1_a", shape: [2, 3] },
    ]);
    const args = ["convert", "mixed.safetensors", "--to", "diffusers", "--out", "out.safetensors"];
    const refused = await runProgram(args, { cwd });
    expect(refused.status).toBe(3);
    expect(refused.stderr).toContain("error[E_INCOMPATIBLE]: convert mixed.safetensors: 1 of 2 modules");
    expect(refused.stderr).toContain("lora_unet_x (LoHa)");
    const look = await runProgram([...args, "--dry-run"], { cwd });
    expect(look.status).toBe(3);
    expect(look.stdout).toContain("lora_unet_x: LoHa");
    expect(look.stdout).toContain("The conversion would be refused (--dry-run).");
    expect(await readdir(cwd)).toEqual(["mixed.safetensors"]);
    const kept = await runProgram([...args, "--keep-unknown"], { cwd });
    expect(kept.status).toBe(0);
    expect(kept.stdout).toContain("1 module mapped, 1 not");
    expect(kept.stdout).toContain("Carried over under their own names:\n  lora_unet_x: LoHa");
  });

  test("files that exist, unless --force is given", async () => {
    const cwd = await folderWithLora();
    await writeFile(path.join(cwd, "out.safetensors"), "mine");
    const args = ["convert", "cat.safetensors", "--to", "diffusers", "--out", "out.safetensors"];
    expect((await runProgram(args, { cwd })).status).toBe(2);
    expect(await readFile(path.join(cwd, "out.safetensors"), "utf8")).toBe("mine");
    expect((await runProgram([...args, "--force"], { cwd })).status).toBe(0);
  });
});
