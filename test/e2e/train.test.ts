import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import type { TrainEvent } from "../../src/training/events.js";
import { PROGRAM, runProgram } from "../helpers/run-program.js";
import { tempFolder } from "../helpers/temp-folder.js";

const fixture = (name: string) => fileURLToPath(new URL(`../../fixtures/${name}`, import.meta.url));

const OPTIONS = [
  `--pretrained_model_name_or_path=${fixture("sd1-tiny.safetensors")}`,
  `--train_data_dir=${fixture("emoji/train")}`,
  "--resolution=32",
  "--network-dim=4",
  "--network_args",
  "unit=2",
  "--network-train-unet-only",
  "--device=cpu",
  "--seed=1",
];

const eventsOf = (stdout: string): TrainEvent[] =>
  stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));

/** Starts a run and presses Ctrl-C after its first step. */
async function interruptedRun(cwd: string): Promise<{ status: number | null; events: TrainEvent[] }> {
  const args = ["train", ...OPTIONS, "--max_train_steps=1000", "--output_dir=out", "--json"];
  const child = spawn(process.execPath, [PROGRAM, ...args], { cwd, stdio: ["ignore", "pipe", "inherit"] });
  const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
  const events: TrainEvent[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    const event: TrainEvent = JSON.parse(line);
    if (event.type === "step" && !events.some(({ type }) => type === "step")) child.kill("SIGINT");
    events.push(event);
  }
  return { status: await ended, events };
}

// Both parts in one test: the second needs what the first one leaves.
test("Ctrl-C saves the state, and resume goes on from it", { timeout: 300_000 }, async () => {
  const cwd = await tempFolder();
  const { status, events } = await interruptedRun(cwd);
  expect(status).toBe(130);
  expect(events.map(({ type }) => type)).toEqual(
    expect.arrayContaining(["preparing", "start", "step", "saved"]),
  );
  const last = events.at(-1);
  if (last?.type !== "interrupted") throw new Error(`the last event is ${last?.type}`);
  expect(last.totalSteps).toBe(1000);
  expect(existsSync(last.stateDir)).toBe(true);

  const total = last.step + 2;
  const resumed = await runProgram(["resume", last.stateDir, `--max_train_steps=${total}`], { cwd });
  expect(resumed.status).toBe(0);
  expect(resumed.stderr).toContain(
    `resuming at step ${last.step + 1} of ${total} from ${path.join("out", path.basename(last.stateDir))}`,
  );
  expect(resumed.stderr).toContain(`step ${total}/${total}  loss `);
  expect(resumed.stderr).not.toContain("\r");
  expect(resumed.stdout).toMatch(/^trained /);
  expect(resumed.stdout).toContain(`weights  ${path.join("out", "last.safetensors")}`);
  expect(existsSync(path.join(cwd, "out", "last.safetensors"))).toBe(true);

  const refused = await runProgram(["resume", last.stateDir, "--network_dim=8"], { cwd });
  expect(refused.status).toBe(2);
  expect(refused.stderr).toContain("error[E_CONFIG]: resume: network_dim is 4 in the state, 8 was given\n");
});

test("a run as one JSON event a line, and its ranks compared", { timeout: 300_000 }, async () => {
  const cwd = await tempFolder();
  const { status, stdout, stderr } = await runProgram(
    [
      "train",
      ...OPTIONS,
      "--max_train_steps=2",
      "--output_dir=out",
      "--output_name=cat",
      "--xformers",
      "--json",
    ],
    { cwd },
  );
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  const events = eventsOf(stdout);
  expect(events[0]).toMatchObject({
    schemaVersion: 1,
    type: "warning",
    message: expect.stringContaining("--xformers"),
  });
  expect(
    events.filter(({ type }) => type !== "preparing" && type !== "warning").map(({ type }) => type),
  ).toEqual(["start", "step", "step", "saved", "report", "end"]);
  const end = events.at(-1);
  expect(end).toMatchObject({ type: "end", steps: 2 });
  expect(existsSync(path.join(cwd, "out", "cat.safetensors"))).toBe(true);

  const bench = await runProgram(
    [
      "bench",
      "out/cat.safetensors",
      `--pretrained_model_name_or_path=${fixture("sd1-tiny.safetensors")}`,
      `--data=${fixture("emoji/validation")}`,
      "--ranks=2,4",
      "--max-images=2",
      "--samples=1",
      "--device=cpu",
      "--json",
    ],
    { cwd },
  );
  expect({ status: bench.status, stderr: bench.stderr }).toEqual({ status: 0, stderr: "" });
  const report = JSON.parse(bench.stdout);
  expect(report).toMatchObject({
    schemaVersion: 1,
    settings: { device: "cpu", width: 32, height: 32 },
    extent: { imageCount: 2, drawsPerImage: 4 },
  });
  expect(report.files[0].ranks.map(({ rank }: { rank: number }) => rank)).toEqual([2, 4]);
});
