/** Exact resume of the program: killed at any moment, or stopped with Ctrl-C. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { beforeAll, describe, expect, test } from "vitest";
import { SafetensorsFile } from "../../src/safetensors/index.js";
import type { TrainConfig } from "../../src/training/config.js";
import { PROGRAM, runProgram } from "../helpers/run-program.js";
import { tempFolder } from "../helpers/temp-folder.js";
import {
  modelHash,
  pictureFolder,
  SLOW_MS,
  stepRecords,
  TINY_MODEL,
  tinyConfig,
  trainTiny,
} from "../helpers/tiny-run.js";

/** More than three kills let happen. */
const STEPS = 16;
const KILLS = 3;

/** Another moment in every run of the tests; a failure names it, and `KILL_SEED=… npm test` repeats it. */
const killSeed = Number(process.env.KILL_SEED ?? Date.now() % 1e6);

let pictures: string;

beforeAll(async () => {
  pictures = await pictureFolder(3);
});

/** The same run for the library and for the command line. */
function settings(updateMode: "full" | "frozen"): { config: Partial<TrainConfig>; args: string[] } {
  return {
    config: {
      maxTrainSteps: STEPS,
      gradientAccumulationSteps: 2,
      networkArgs: ["unit=2", `update_mode=${updateMode}`],
      lrScheduler: "cosine",
      lrWarmupSteps: 2,
    },
    args: [
      `--pretrained_model_name_or_path=${TINY_MODEL}`,
      `--train_data_dir=${pictures}`,
      "--resolution=16",
      "--network_dim=4",
      "--network_alpha=4",
      "--network_args",
      "unit=2",
      `update_mode=${updateMode}`,
      "--network_train_unet_only",
      "--learning_rate=1e-2",
      "--lr_scheduler=cosine",
      "--lr_warmup_steps=2",
      `--max_train_steps=${STEPS}`,
      "--gradient_accumulation_steps=2",
      "--seed=7",
      "--device=cpu",
      "--execution_mode=lean",
      "--threads=1",
      "--output_dir=out",
      "--save_state",
      "--save_every_n_steps=1",
      // The reference does without. It must not matter, and every process but the first starts sooner.
      "--cache_latents_to_disk",
    ],
  };
}

const references = new Map<string, ReturnType<typeof trainThrough>>();

/** What the run gives that nobody stops. */
function uninterrupted(updateMode: "full" | "frozen"): ReturnType<typeof trainThrough> {
  const reference = references.get(updateMode) ?? trainThrough(updateMode);
  references.set(updateMode, reference);
  return reference;
}

async function trainThrough(updateMode: "full" | "frozen") {
  const folder = await tempFolder();
  const { config } = settings(updateMode);
  const { result } = await trainTiny(tinyConfig({ trainDataDir: pictures, outputDir: folder, ...config }));
  return {
    hash: await modelHash(result.weightsPath!),
    steps: await stepRecords(join(folder, "metrics.jsonl")),
  };
}

function start(args: readonly string[], cwd: string): ChildProcess & { ended: Promise<number | null> } {
  const child = spawn(process.execPath, [PROGRAM, ...args], { cwd, stdio: ["ignore", "pipe", "pipe"] });
  return Object.assign(child, {
    ended: new Promise<number | null>((resolve) => child.on("close", resolve)),
  });
}

/** Runs the program and kills it some milliseconds after it reported so many steps. */
async function runAndKill(args: readonly string[], cwd: string, steps: number, delayMs: number) {
  const child = start([...args, "--json"], cwd);
  let stderr = "";
  child.stderr!.on("data", (part) => {
    stderr += part;
  });
  let seen = 0;
  for await (const line of createInterface({ input: child.stdout! })) {
    if (JSON.parse(line).type !== "step" || ++seen !== steps) continue;
    setTimeout(() => child.kill("SIGKILL"), delayMs);
  }
  expect(await child.ended, `ended before it was killed (KILL_SEED=${killSeed}):\n${stderr}`).toBeNull();
}

/** `dylora resume` with the newest state that is whole; null before there is one. */
async function newestState(out: string): Promise<string | null> {
  const folders = existsSync(out) ? (await readdir(out)).filter((name) => name.endsWith("-state")) : [];
  const whole = folders.filter((name) => existsSync(join(out, name, "train_state.json"))).sort();
  const newest = whole.at(-1);
  return newest === undefined ? null : join(out, newest);
}

/** Every file under its own name can be read, whatever moment the program died in. */
async function expectWholeFiles(out: string): Promise<void> {
  for (const name of await readdir(out, { recursive: true })) {
    if (!name.endsWith(".safetensors")) continue;
    const file = await SafetensorsFile.open(join(out, name));
    await file.close();
  }
}

describe.each(["full", "frozen"] as const)("update_mode=%s", (updateMode) => {
  test("killed three times and resumed, it ends with the same file and the same steps", {
    timeout: SLOW_MS,
  }, async () => {
    const expected = await uninterrupted(updateMode);
    const cwd = await tempFolder();
    const out = join(cwd, "out");
    const { args } = settings(updateMode);
    const moments: string[] = [];
    for (let kill = 0; kill < KILLS; kill++) {
      const state = await newestState(out);
      // After one or two of the steps that are left, and about as long as half a step later.
      const draw = Math.abs(Math.sin(killSeed * 31 + kill * 7 + updateMode.length)) * 1e4;
      const [steps, delayMs] = [1 + (Math.floor(draw) % 2), Math.floor((draw % 1) * 100)];
      moments.push(`${delayMs} ms after step ${steps} from ${state ?? "the start"}`);
      await runAndKill(state === null ? ["train", ...args] : ["resume", state], cwd, steps, delayMs);
      await expectWholeFiles(out);
    }
    const how = `KILL_SEED=${killSeed}: killed ${moments.join(", ")}`;
    const state = await newestState(out);
    const last = await runProgram(state === null ? ["train", ...args] : ["resume", state], { cwd });
    expect(last.status, `${how}\n${last.stderr}`).toBe(0);
    expect(await modelHash(join(out, "last.safetensors")), how).toBe(expected.hash);
    expect(await stepRecords(join(out, "metrics.jsonl")), how).toEqual(expected.steps);
    await expectWholeFiles(out);
  });
});

test("Ctrl-C saves the state and prints the command that goes on to the same file", {
  timeout: SLOW_MS,
}, async () => {
  const expected = uninterrupted("full");
  const cwd = await tempFolder();
  const { args } = settings("full");
  const child = start(["train", ...args], cwd);
  child.stdout!.resume();
  let stderr = "";
  for await (const line of createInterface({ input: child.stderr! })) {
    if (line.startsWith(`step 2/${STEPS}`)) child.kill("SIGINT");
    stderr += `${line}\n`;
  }
  expect(await child.ended).toBe(130);
  const printed = /^ {2}go on with: dylora (resume out\/last-step000000\d\d-state)$/m.exec(stderr);
  expect(printed, stderr).not.toBeNull();
  const interruptedAt = Number(
    /^interrupted at step (\d+) of 16; the state is saved in out/m.exec(stderr)![1],
  );
  expect(existsSync(join(cwd, "out", "last.safetensors"))).toBe(false);

  const resumed = await runProgram(printed![1]!.split(" "), { cwd });
  expect(resumed.status, resumed.stderr).toBe(0);
  expect(resumed.stderr.split("\n")[0]).toBe(
    `resuming at step ${interruptedAt + 1} of ${STEPS} from ${printed![1]!.replace("resume ", "")}`,
  );
  const { hash, steps } = await expected;
  expect(await modelHash(join(cwd, "out", "last.safetensors"))).toBe(hash);
  expect(await stepRecords(join(cwd, "out", "metrics.jsonl"))).toEqual(steps);
});
