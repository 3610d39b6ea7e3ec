/** A folder of three aspect ratios: trained, killed and resumed, extracted, measured, all with the program itself. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect, test } from "vitest";
import { PROGRAM, runProgram } from "../helpers/run-program.js";
import { tempFolder } from "../helpers/temp-folder.js";
import { modelHash, SLOW_MS, shapedFolder, stepRecords, TINY_MODEL } from "../helpers/tiny-run.js";

const MODEL = `--pretrained_model_name_or_path=${TINY_MODEL}`;
const MACHINE = ["--device=cpu", "--execution_mode=lean", "--threads=1"];

/** Two pictures of each shape: buckets 16x48, 32x32 and 48x16. */
const SHAPES = [
  [32, 32],
  [20, 60],
  [60, 20],
  [40, 40],
  [30, 90],
  [90, 30],
] as const;

test("training in buckets: the same file after SIGKILL, extraction, comparison", {
  timeout: SLOW_MS,
}, async () => {
  const [pictures, cwd] = await Promise.all([shapedFolder(SHAPES), tempFolder()]);
  const train = [
    "train",
    MODEL,
    `--train_data_dir=${pictures}`,
    "--resolution=32",
    "--enable_bucket",
    "--min_bucket_reso=16",
    "--max_bucket_reso=64",
    "--bucket_reso_steps=16",
    "--network_dim=4",
    "--network_args",
    "unit=2",
    "--network_train_unet_only",
    "--learning_rate=1e-2",
    "--max_train_steps=7",
    "--seed=7",
    "--cache_latents",
    "--save_state",
    "--save_every_n_steps=2",
    ...MACHINE,
  ];
  const whole = await runProgram([...train, "--output_dir=whole"], { cwd });
  expect(whole.status, whole.stderr).toBe(0);
  expect(whole.stderr).toContain("3 sizes of about the area of 32x32 px");
  expect(whole.stderr).toMatch(/^ {2}buckets +16x48 {2}2 images {2}2 samples$/m);
  expect(whole.stderr).toMatch(/^ +48x16 {2}2 images {2}2 samples$/m);
  const reference = join(cwd, "whole", "last.safetensors");

  await killAfterStep(3, [...train, "--output_dir=killed"], cwd);
  const state = join("killed", "last-step00000002-state");
  expect(existsSync(join(cwd, "killed", "last.safetensors"))).toBe(false);
  const resumed = await runProgram(["resume", state], { cwd });
  expect(resumed.status, resumed.stderr).toBe(0);
  expect(await modelHash(join(cwd, "killed", "last.safetensors"))).toBe(await modelHash(reference));
  const steps = (folder: string) => stepRecords(join(cwd, folder, "metrics.jsonl"));
  expect(await steps("killed")).toEqual(await steps("whole"));

  const extracted = await runProgram(["extract", reference, "--ranks", "2", "--out", "ranks"], { cwd });
  expect(extracted.status, extracted.stderr).toBe(0);
  const bench = await runProgram(
    ["bench", reference, MODEL, `--data=${pictures}`, "--samples=1", "--ranks=2", "--json", ...MACHINE],
    { cwd },
  );
  expect(bench.status, bench.stderr).toBe(0);
  const report = JSON.parse(bench.stdout);
  expect(
    report.settings.buckets.map(({ width, height }: { width: number; height: number }) => [width, height]),
  ).toEqual([
    [16, 48],
    [32, 32],
    [48, 16],
  ]);
  expect(report.files[0].ranks.map(({ rank }: { rank: number }) => rank)).toEqual([2, 4]);
});

async function killAfterStep(step: number, args: readonly string[], cwd: string): Promise<void> {
  const child = spawn(process.execPath, [PROGRAM, ...args, "--json"], {
    cwd,
    stdio: ["ignore", "pipe", "ignore"],
  });
  const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
  for await (const line of createInterface({ input: child.stdout })) {
    const event = JSON.parse(line);
    if (event.type === "step" && event.step === step) child.kill("SIGKILL");
  }
  expect(await ended).toBeNull();
}
