import { readdir, readFile, truncate, writeFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { openAdapter } from "../../src/adapter/index.js";
import { writePlantedAdapter } from "../helpers/planted-adapter.js";
import { writeRandomAdapter } from "../helpers/random-adapter.js";
import { runProgram } from "../helpers/run-program.js";
import { tempFolder } from "../helpers/temp-folder.js";
import { pictureFolder, TINY_MODEL } from "../helpers/tiny-run.js";

const METADATA = {
  ss_network_module: "networks.dylora",
  ss_network_dim: "8",
  ss_network_alpha: "4.0",
  ss_network_args: '{"unit": "2", "alpha_rule": "paper"}',
};

/** A folder with a DyLoRA of rank 8, unit 2. */
async function folderWithDylora(): Promise<string> {
  const folder = await tempFolder();
  await writeRandomAdapter(path.join(folder, "cat.safetensors"), { metadata: METADATA });
  return folder;
}

const extractIn = (cwd: string, ...args: string[]) =>
  runProgram(["extract", "cat.safetensors", ...args], { cwd });

describe("dylora extract", () => {
  test("writes every rank that was asked for, and says where", async () => {
    const cwd = await folderWithDylora();
    const { status, stdout, stderr } = await extractIn(cwd, "--ranks", "2,8", "--out", "ranks");
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    const [head, titles, ...rows] = stdout.trimEnd().split("\n");
    expect(head).toBe("cat.safetensors: rank 8, unit 2, alpha rule paper (from its metadata)");
    expect(titles).toMatch(/^rank +alpha +file +size +hash$/);
    expect(
      rows.map((row) =>
        row
          .trim()
          .split(/\s{2,}/)
          .slice(0, 3),
      ),
    ).toEqual([
      ["2", "4", "ranks/cat-r2.safetensors"],
      ["8", "4", "ranks/cat-r8.safetensors"],
    ]);
    expect((await readdir(path.join(cwd, "ranks"))).sort()).toEqual([
      "cat-r2.safetensors",
      "cat-r8.safetensors",
    ]);
    await using copy = await openAdapter(path.join(cwd, "ranks", "cat-r2.safetensors"));
    expect(copy.maxRank).toBe(2);
  });

  test.each([
    [["--all"], [2, 4, 6, 8]],
    [
      ["--unit", "4"],
      [4, 8],
    ],
    [["--ranks=6"], [6]],
  ])("%j --json", async (selection, ranks) => {
    const cwd = await folderWithDylora();
    const { status, stdout, stderr } = await extractIn(cwd, ...selection, "--json");
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    const document = JSON.parse(stdout);
    expect(document).toMatchObject({ schemaVersion: 1, unit: 2, alphaRule: "paper", dryRun: false });
    expect(document.outputs.map(({ rank }: { rank: number }) => rank)).toEqual(ranks);
    for (const output of document.outputs) {
      expect(output).toMatchObject({ alphas: [4], dataSha256: expect.stringMatching(/^[0-9a-f]{64}$/) });
      expect((await readFile(output.path)).length).toBe(output.sizeBytes);
    }
  });

  test("--dry-run names the files and their sizes and writes nothing", async () => {
    const cwd = await folderWithDylora();
    const planned = JSON.parse(
      (await extractIn(cwd, "--all", "--out", "ranks", "--dry-run", "--json")).stdout,
    );
    expect(await readdir(cwd)).toEqual(["cat.safetensors"]);
    const written = JSON.parse((await extractIn(cwd, "--all", "--out", "ranks", "--json")).stdout);
    const facts = ({ rank, path: file, sizeBytes, alphas }: Record<string, unknown>) => ({
      rank,
      file,
      sizeBytes,
      alphas,
    });
    expect(planned.outputs.map(facts)).toEqual(written.outputs.map(facts));
  });

  test("ranks of components, another type, names, no hashes", async () => {
    const cwd = await folderWithDylora();
    const args = ["--unet-rank", "8", "--te-rank", "4", "--skip-hashes", "--dtype", "bf16"];
    const { status, stdout, stderr } = await extractIn(cwd, ...args);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    const [head, titles, row] = stdout.trimEnd().split("\n");
    expect(head).toContain("alpha rule paper (from its metadata), written as BF16");
    expect(titles).toMatch(/^ *rank +alpha +file +size$/);
    expect(
      row!
        .trim()
        .split(/\s{2,}/)
        .slice(0, 3),
    ).toEqual(["unet 8, te 4", "4", "cat-unet8-te4.safetensors"]);
    await using copy = await openAdapter(path.join(cwd, "cat-unet8-te4.safetensors"));
    for (const { component, rank, down } of copy.modules) {
      expect([rank, down.dtype]).toEqual([component === "unet" ? 8 : 4, "BF16"]);
    }
    expect(copy.metadata).not.toHaveProperty("sshs_model_hash");

    const named = ["--ranks", "2,4", "--te-rank", "2", "--name", "{stem}-{unet}", "--json"];
    const { outputs } = JSON.parse((await extractIn(cwd, ...named)).stdout);
    expect(outputs).toMatchObject([
      { rank: 2, componentRanks: { unet: 2, te: 2 }, path: path.join(cwd, "cat-2.safetensors") },
      { rank: 4, componentRanks: { unet: 4, te: 2 }, path: path.join(cwd, "cat-4.safetensors") },
    ]);
  });

  test("files that exist stay unless --force is given", async () => {
    const cwd = await folderWithDylora();
    await writeFile(path.join(cwd, "cat-r2.safetensors"), "mine");
    const refused = await extractIn(cwd, "--ranks", "2,4");
    expect(refused).toMatchObject({ status: 2, stdout: "" });
    expect(refused.stderr).toContain("error[E_EXISTS]");
    expect((await readdir(cwd)).sort()).toEqual(["cat-r2.safetensors", "cat.safetensors"]);
    expect(await readFile(path.join(cwd, "cat-r2.safetensors"), "utf8")).toBe("mine");
    expect((await extractIn(cwd, "--ranks", "2,4", "--force")).status).toBe(0);
    await using copy = await openAdapter(path.join(cwd, "cat-r2.safetensors"));
    expect(copy.maxRank).toBe(2);
  });
});

describe("dylora extract --budget", () => {
  const planned = async () => {
    const cwd = await tempFolder();
    const modules = [16, 8, 4, 12, 16, 4].map((used, i) => ({
      name: `lora_unet_down_blocks_${Math.floor(i / 3)}_attentions_${i % 3}_proj_in`,
      inFeatures: 96,
      outFeatures: 96,
      used,
    }));
    await writePlantedAdapter(path.join(cwd, "cat.safetensors"), modules);
    return cwd;
  };

  test("--dry-run shows which rank each part gets and writes nothing", async () => {
    const cwd = await planned();
    const { status, stdout, stderr } = await extractIn(cwd, "--budget", "80%", "--modules", "--dry-run");
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    const lines = stdout.trimEnd().split("\n");
    expect(lines[1]).toMatch(
      /^budget [\d.]+ kB: keeps 100\.0 % of the full rank's energy; rank 12 everywhere/,
    );
    expect(stdout).toMatch(/^part +modules +rank 4 +rank 8 +rank 12 +rank 16 +mean rank +size$/m);
    expect(stdout).toMatch(/^down_blocks_0 +3 +1 +1 +- +1 +9\.3 /m);
    expect(stdout).toMatch(/^lora_unet_down_blocks_1_attentions_0_proj_in +12 of 16 +100\.0 % /m);
    expect(lines.at(-1)).toBe("Nothing was written (--dry-run).");
    expect(await readdir(cwd)).toEqual(["cat.safetensors"]);
  });

  test("writes an ordinary LoRA of the size, which inspect and extract read", async () => {
    const cwd = await planned();
    const document = JSON.parse((await extractIn(cwd, "--budget", "24kB", "--json")).stdout);
    const [output] = document.outputs;
    expect(output.path).toBe(path.join(cwd, "cat-24kB.safetensors"));
    const { length } = await readFile(output.path);
    expect(length).toBe(output.sizeBytes);
    expect(length).toBeLessThanOrEqual(24_000);
    // No further four components of a module, 96 numbers on each side, would fit.
    expect(length).toBeGreaterThan(24_000 - 4 * 2 * 96 * 2 - 100);
    const ranks = new Map(
      output.mixed.modules.map(({ name, rank }: { name: string; rank: number }) => [name, rank]),
    );
    const inspected = await runProgram(["inspect", output.path, "--json"], { cwd });
    const [file] = JSON.parse(inspected.stdout).files;
    expect(file.dylora.isDylora).toBe(false);
    for (const { name, rank } of file.modules) expect(rank).toBe(ranks.get(name));
  });

  test.each([
    [["--budget", "30kB", "--all"], "ranks are chosen in more than one way"],
    [["--budget", "much"], '--budget expects a size such as 12MB or 25%, found "much"'],
    [["--budget", "2kB"], "no copy of 2000 bytes is possible: the smallest takes"],
    [["--budget", "1GB"], "the budget of 1000000000 bytes is no smaller than the whole, which takes"],
    [["--all", "--calibrate", "data"], "--calibrate needs --budget"],
    [["--budget", "30kB", "--calibrate", "data"], "--calibrate needs --pretrained-model-name-or-path"],
    [["--budget", "30kB", "--samples", "4"], "--samples needs --calibrate"],
    [["--all", "--modules"], "--modules needs --budget"],
  ])("%j is refused", async (args, message) => {
    const cwd = await planned();
    const result = await extractIn(cwd, ...args);
    expect(result).toMatchObject({ status: 2, stdout: "" });
    expect(result.stderr).toContain("error[E_USAGE]: extract");
    expect(result.stderr).toContain(message);
    expect(result.stderr).toContain("Nothing was written.");
    expect(await readdir(cwd)).toEqual(["cat.safetensors"]);
  });

  test("--calibrate measures ranks on images", { timeout: 300_000 }, async () => {
    const cwd = await tempFolder();
    const used = [4, 16, 16];
    const modules = ["down_blocks_0", "up_blocks_3", "up_blocks_2"].map((block, i) => ({
      name: `lora_unet_${block}_attentions_0_transformer_blocks_0_attn1_to_q`,
      inFeatures: 32,
      outFeatures: 32,
      used: used[i]!,
      strength: 3,
    }));
    await writePlantedAdapter(path.join(cwd, "cat.safetensors"), modules, { alphaRule: "keep" });
    const data = await pictureFolder(1, "1_emoji");
    const { status, stdout, stderr } = await extractIn(
      cwd,
      ...["--budget", "70%", "--calibrate", data, "--pretrained_model_name_or_path", TINY_MODEL],
      ...["--resolution", "16", "--device", "cpu", "--execution-mode", "lean", "--threads", "1", "--json"],
    );
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    const [output] = JSON.parse(stdout).outputs;
    expect(output.mixed).toMatchObject({ benefit: "calibration", kept: null });
    // What is zero beyond rank 4 is never given more.
    expect(output.mixed.modules[0].rank).toBeLessThanOrEqual(4);
    expect(output.sizeBytes).toBeLessThanOrEqual(output.mixed.budgetBytes);
    await using copy = await openAdapter(output.path);
    expect(JSON.parse(copy.metadata.dylora_operation!)).toMatchObject({ benefit: "calibration" });
  });
});

describe("what it refuses, each with its exit code and nothing written", () => {
  test.each([
    [[], 2, "error[E_USAGE]: extract: no ranks are chosen"],
    [["--all", "--unit", "2"], 2, "error[E_USAGE]: extract: ranks are chosen in more than one way"],
    [["--ranks", "9"], 2, "error[E_RANK]: extract cat.safetensors: rank 9 is above the largest rank, 8"],
    [["--ranks", "3"], 2, "error[E_RANK]: extract cat.safetensors: rank 3 is no multiple of the unit 2"],
    [
      ["--alpha-rule", "papr", "--all"],
      2,
      'error[E_USAGE]: extract: --alpha-rule expects one of paper, sd-scripts, lycoris, keep, found "papr"',
    ],
    [
      ["--all", "--unet-rank", "2", "--te-rank", "2"],
      2,
      "error[E_USAGE]: extract cat.safetensors: every component has a rank of its own already",
    ],
    [
      ["--all", "--name", "{stem}"],
      2,
      "error[E_USAGE]: extract cat.safetensors: more than one of the 4 files would be called cat",
    ],
    [["--ranks", "2", "--name", "../{stem}"], 2, "error[E_USAGE]: extract cat.safetensors: the name pattern"],
    [["--rank", "4"], 2, "error[E_USAGE]: extract: unknown option --rank\n  note: Did you mean --ranks?"],
  ])("%j", async (args, status, stderr) => {
    const cwd = await folderWithDylora();
    const result = await extractIn(cwd, ...args);
    expect(result).toMatchObject({ status, stdout: "" });
    expect(result.stderr.slice(0, stderr.length)).toBe(stderr);
    expect(await readdir(cwd)).toEqual(["cat.safetensors"]);
  });

  test("a file that is not there, a truncated one and one that is no adapter", async () => {
    const cwd = await folderWithDylora();
    await truncate(path.join(cwd, "cat.safetensors"), 5000);
    const truncated = await extractIn(cwd, "--all");
    expect(truncated.status).toBe(3);
    expect(truncated.stderr).toContain("error[E_FORMAT]");
    const missing = await runProgram(["extract", "dog.safetensors", "--all"], { cwd });
    expect(missing.status).toBe(3);
    expect(missing.stderr).toContain("error[E_NOT_FOUND]");
    expect(await readdir(cwd)).toEqual(["cat.safetensors"]);
  });
});
