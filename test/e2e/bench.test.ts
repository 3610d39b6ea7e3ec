/** `dylora bench` as a user runs it: tables, files, interruptions. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import { writeAdapter } from "../../src/adapter/index.js";
import type { BenchReport } from "../../src/evaluation/bench-types.js";
import { openCheckpoint } from "../../src/models/checkpoint/index.js";
import { loraTargets } from "../../src/models/lora-targets.js";
import { freshModule } from "../../src/training/network.js";
import { PROGRAM, runProgram } from "../helpers/run-program.js";
import { tempFolder } from "../helpers/temp-folder.js";

const fixture = (name: string) => fileURLToPath(new URL(`../../fixtures/${name}`, import.meta.url));

/** Four images, four draws, three ranks and the base model. */
const LOSSES = 4 * 4 * 4;

let cwd: string;

const args = (...more: string[]) => [
  ...["bench", "cat.safetensors", `--pretrained_model_name_or_path=${fixture("sd1-tiny.safetensors")}`],
  ...[`--data=${fixture("emoji/validation")}`, "--max-images=4", "--resolution=32", "--device=cpu"],
  ...["--threads=1", "--execution_mode=lean"],
  ...more,
];

beforeAll(async () => {
  cwd = await tempFolder();
  const checkpoint = await openCheckpoint(fixture("sd1-tiny.safetensors"));
  const targets = loraTargets({ unet: checkpoint.unet.config, textEncoder: checkpoint.textEncoder.config });
  const modules = targets
    .filter(({ name }) => name.endsWith("attn1_to_q"))
    .map((target) => {
      const { down, up } = freshModule(target, 6, 6, 1);
      return { ...target, rank: 6, alpha: 6, down, upT: up.map((_, index) => 0.2 * Math.sin(index)) };
    });
  const metadata = {
    ss_network_module: "networks.dylora",
    ss_network_args: JSON.stringify({ unit: "2", alpha_rule: "paper" }),
  };
  await writeAdapter(path.join(cwd, "cat.safetensors"), modules, { metadata, dtype: "F32" });
});

const lossLines = async (file: string) =>
  (await readFile(path.join(cwd, file), "utf8")).split("\n").slice(1, -1);

/** Starts a run and sends it a signal once its file has so many losses. */
async function signalled(
  signal: NodeJS.Signals,
  cache: string,
  losses: number,
  more: readonly string[] = [],
) {
  const child = spawn(process.execPath, [PROGRAM, ...args(`--cache=${cache}`, ...more)], {
    cwd,
    stdio: ["ignore", "ignore", "pipe"],
  });
  let stderr = "";
  child.stderr.on("data", (text) => {
    stderr += text;
  });
  const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
  while (child.exitCode === null) {
    const isThere = existsSync(path.join(cwd, cache)) && (await lossLines(cache)).length >= losses;
    if (isThere) break;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  child.kill(signal);
  return { status: await ended, stderr };
}

describe("bench", { timeout: 300_000 }, () => {
  test("prints tables, writes CSV and the losses, and a second run measures nothing", async () => {
    const first = await runProgram(args("--cache=all.jsonl", "--csv=all.csv"), { cwd });
    expect(first).toMatchObject({ status: 0, stderr: "" });
    expect(first.stdout).toContain("4 images x 4 draws, 32x32 px, cpu");
    expect(first.stdout).toMatch(/^rank {4}loss {2}against rank 6/m);
    expect(first.stdout).toContain("<- recommended");
    expect(first.stdout).toMatch(/^rank +0-249 +250-499 +500-749 +750-999$/m);
    expect(await lossLines("all.jsonl")).toHaveLength(LOSSES);
    expect((await readFile(path.join(cwd, "all.csv"), "utf8")).split("\r\n")).toHaveLength(1 + 4 * 5 + 1);

    const again = await runProgram(args("--cache=all.jsonl", "--json"), { cwd });
    expect(again).toMatchObject({ status: 0, stderr: "" });
    const report: BenchReport = JSON.parse(again.stdout);
    expect(report).toMatchObject({ schemaVersion: 1, extent: { measuredLosses: 0, reusedLosses: LOSSES } });
    expect(report.files[0]!.ranks.map(({ rank }) => rank)).toEqual([2, 4, 6]);
    expect(await lossLines("all.jsonl")).toHaveLength(LOSSES);
  });

  test("killed at any moment it loses at most the loss under way, and measures nothing twice", async () => {
    const killed = await signalled("SIGKILL", "killed.jsonl", 20);
    expect(killed.status).toBeNull();
    const kept = (await lossLines("killed.jsonl")).length;
    expect(kept).toBeGreaterThanOrEqual(20);
    expect(kept).toBeLessThan(LOSSES);

    const resumed = await runProgram(args("--cache=killed.jsonl", "--json"), { cwd });
    expect(resumed).toMatchObject({ status: 0, stderr: "" });
    const { extent, files, base }: BenchReport = JSON.parse(resumed.stdout);
    expect(extent).toMatchObject({ measuredLosses: LOSSES - kept, reusedLosses: kept });
    const lines = (await lossLines("killed.jsonl")).map((line) => JSON.parse(line));
    expect(lines).toHaveLength(LOSSES);
    expect(new Set(lines.map(({ adapter, sample }) => `${adapter} ${sample}`)).size).toBe(LOSSES);

    // The numbers of a run that nobody killed.
    const whole: BenchReport = JSON.parse(
      (await runProgram(args("--cache=all.jsonl", "--json"), { cwd })).stdout,
    );
    const lossesOf = (report: Pick<BenchReport, "files" | "base">) => [
      report.base.meanLoss,
      ...report.files[0]!.ranks.map(({ multipliers }) => multipliers[0]!.meanLoss),
    ];
    expect(lossesOf({ files, base })).toEqual(lossesOf(whole));
  });

  test("Ctrl-C keeps what was measured and prints the command that goes on", async () => {
    const { status, stderr } = await signalled("SIGINT", "stopped.jsonl", 10, ["--ranks=4"]);
    expect(status).toBe(130);
    expect(stderr).toContain("error[E_INTERRUPTED]: bench: interrupted");
    const kept = (await lossLines("stopped.jsonl")).length;
    expect(stderr).toContain(
      `${kept} losses so far, kept in stopped.jsonl. To go on from them: dylora bench cat.safetensors `,
    );
    const [, command] = /: dylora (bench .+)\n/.exec(stderr)!;
    const resumed = await runProgram([...command!.split(" "), "--json"], { cwd });
    expect(resumed).toMatchObject({ status: 0, stderr: "" });
    const { extent }: BenchReport = JSON.parse(resumed.stdout);
    expect(extent).toMatchObject({ measuredLosses: 3 * 16 - kept, reusedLosses: kept });
  });

  test("without a file for them, losses are put into one at Ctrl-C", async () => {
    const child = spawn(process.execPath, [PROGRAM, ...args("--samples=4000", "--max-images=1")], {
      cwd,
      stdio: ["ignore", "ignore", "pipe"],
    });
    let stderr = "";
    child.stderr.on("data", (text) => {
      stderr += text;
      // It says how long it will take once every rank was executed.
      if (/^measuring/m.test(stderr) && !child.killed) child.kill("SIGINT");
    });
    expect(await new Promise((resolve) => child.on("close", resolve))).toBe(130);
    expect(stderr).toMatch(
      /\d+ losses so far, kept in bench-losses\.jsonl\. To go on from them: .* --cache bench-losses\.jsonl/,
    );
    expect((await lossLines("bench-losses.jsonl")).length).toBeGreaterThan(0);
  });

  test("what cannot be written is refused before anything is measured", async () => {
    for (const [option, code] of [
      ["--csv=no/all.csv", "E_WRITE"],
      ["--cache=no/all.jsonl", "E_WRITE"],
      ["--cache=cat.safetensors", "E_FORMAT"],
    ]) {
      const { stderr } = await runProgram(args(option!), { cwd });
      expect(stderr).toContain(`error[${code}]: `);
    }
  });
});
