import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import { metadataOf, pictureFolder, SLOW_MS, tinyConfig } from "../../test/helpers/tiny-run.js";
import type { TrainConfig } from "./config.js";
import type { TrainEvent } from "./events.js";
import { LossScaler } from "./loss-scaler.js";
import { LossAverages } from "./metrics-averages.js";
import { type PreparedRun, prepareRun } from "./prepare.js";
import { type RunProgress, restoreRunState } from "./run-state.js";
import { Saver } from "./saver.js";
import { readTrainState } from "./state.js";

let run: PreparedRun;
let folder: string;
let progress: RunProgress;
let events: TrainEvent[];

beforeAll(async () => {
  const config = tinyConfig({ trainDataDir: await pictureFolder(2), outputDir: await tempFolder() });
  run = await prepareRun(config, config.seed!, {
    onEvent: () => {},
    signal: new AbortController().signal,
  });
}, SLOW_MS);

beforeEach(async () => {
  folder = await tempFolder();
  events = [];
  progress = {
    step: 0,
    averages: new LossAverages(),
    lossScaler: null,
    validationDue: false,
    samplesDue: false,
    startedAt: new Date(0),
    sessionId: 1,
  };
});

function saver(changes: Partial<TrainConfig> = {}): Saver {
  const config = { ...run.config, outputDir: folder, outputName: "cat", ...changes };
  return new Saver(
    { ...run, config },
    progress,
    { "U-Net": "abc" },
    {
      onEvent: (event) => events.push(event),
      signal: new AbortController().signal,
    },
  );
}

async function saveAt(target: Saver, ...steps: number[]): Promise<void> {
  for (const step of steps) {
    progress.step = step;
    await target.save({ kind: "step", step });
  }
}

const stepsIn = async (ending: string) =>
  (await readdir(folder))
    .filter((name) => name.endsWith(ending))
    .map((name) => Number(/step(\d+)/.exec(name)![1]))
    .sort((a, b) => a - b);

describe("Saver", () => {
  test("a state holds the loss scale, and a run that goes on has it again", async () => {
    const state = { scale: 512, goodSteps: 3, skippedSteps: 7 };
    progress = { ...progress, step: 4, lossScaler: new LossScaler(state) };
    const { state: path } = await saver({ saveState: true }).save({ kind: "step", step: 4 });
    const saved = await readTrainState(path!);
    const identities = { "U-Net": "abc" };
    const half = restoreRunState({ ...run, computeType: "float16" }, saved, identities);
    expect(half.lossScaler?.state).toEqual(state);
    expect(restoreRunState(run, saved, identities).lossScaler).toBeNull();
  });

  test("saves the file, and a state where that is asked for", async () => {
    const plain = await saver().save({ kind: "last" });
    expect(plain).toEqual({ weights: join(folder, "cat.safetensors"), state: null });
    const both = await saver({ saveState: true }).save({ kind: "epoch", epoch: 2 });
    expect(both.state).toBe(join(folder, "cat-000002-state"));
    expect((await readTrainState(both.state!)).identities).toEqual({ "U-Net": "abc" });
    expect((await readdir(folder)).sort()).toEqual([
      "cat-000002-state",
      "cat-000002.safetensors",
      "cat.safetensors",
    ]);
  });

  test("tells about each file once it lies there, and lists what is there", async () => {
    const target = saver({ saveState: true });
    await saveAt(target, 3);
    expect(events).toEqual([
      expect.objectContaining({ type: "saved", kind: "weights", step: 3 }),
      expect.objectContaining({ type: "saved", kind: "state", step: 3 }),
    ]);
    // Saved again under the same name, it is one file.
    await target.saveState({ kind: "step", step: 3 });
    expect(target.files.map(({ kind }) => kind)).toEqual(["weights", "state"]);
    expect(target.files.every(({ sizeBytes }) => sizeBytes > 1000)).toBe(true);
  });

  test("the file says at which step and epoch it was saved", async () => {
    // 2 pictures, shown twice an epoch: 4 steps.
    progress.step = 9;
    const { weights } = await saver().save({ kind: "step", step: 9 });
    expect(await metadataOf(weights)).toMatchObject({
      ss_steps: "9",
      ss_epoch: "2",
      ss_num_batches_per_epoch: "4",
      ss_network_module: "networks.dylora",
    });
  });

  test("files older than save_last_n_steps go once the new one is there, states too", async () => {
    const target = saver({ saveState: true, saveEveryNSteps: 10, saveLastNSteps: 30 });
    await saveAt(target, 10, 20, 30, 40);
    expect(await stepsIn(".safetensors")).toEqual([10, 20, 30, 40]);
    await saveAt(target, 50);
    // sd-scripts' own example: every 10, last 30, at step 50 the file of step 10 is removed.
    expect(await stepsIn(".safetensors")).toEqual([20, 30, 40, 50]);
    expect(await stepsIn("-state")).toEqual([20, 30, 40, 50]);
    expect(target.files.some(({ path }) => path.includes("step00000010"))).toBe(false);
  });

  test("states can be kept for another time than files", async () => {
    const target = saver({
      saveState: true,
      saveEveryNSteps: 10,
      saveLastNSteps: 20,
      saveLastNStepsState: 10,
    });
    await saveAt(target, 10, 20, 30, 40);
    expect(await stepsIn(".safetensors")).toEqual([20, 30, 40]);
    expect(await stepsIn("-state")).toEqual([30, 40]);
  });

  test("what another process saved is never removed", async () => {
    await saveAt(saver(), 1, 2);
    await saveAt(saver({ saveEveryNSteps: 1, saveLastNSteps: 1 }), 10);
    expect(await stepsIn(".safetensors")).toEqual([1, 2, 10]);
  });
});
