/** A run that was stopped and goes on is the run that was not. (Runs that are killed: test/e2e/resume.test.ts) */
import { cp, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { SafetensorsFile } from "../../src/safetensors/index.js";
import type { TrainConfig } from "../../src/training/config.js";
import { type MetricsRecord, readMetrics } from "../../src/training/metrics-log.js";
import { resume, train } from "../../src/training/train.js";
import { tempFolder } from "../helpers/temp-folder.js";
import {
  eventsOf,
  modelHash,
  pictureFolder,
  rawTensors,
  SLOW_MS,
  stepRecords,
  tinyConfig,
  trainTiny,
  type WatchedRun,
  watch,
} from "../helpers/tiny-run.js";

const STEPS = 6;

let pictures: string;
let reference: { folder: string; run: WatchedRun };

const configIn = (outputDir: string, changes: Partial<TrainConfig> = {}) =>
  tinyConfig({
    trainDataDir: pictures,
    outputDir,
    outputName: "cat",
    maxTrainSteps: STEPS,
    gradientAccumulationSteps: 2,
    trainBatchSize: 2,
    // A third of the pictures: one.
    validationSplit: 0.34,
    validateEveryNSteps: 3,
    shuffleCaption: true,
    captionDropoutRate: 0.3,
    noiseOffset: 0.05,
    saveState: true,
    saveEveryNSteps: 2,
    ...changes,
  });

const resumeFrom = (
  state: string,
  changes: Partial<TrainConfig> = {},
  stopAt?: Parameters<typeof watch>[1],
) => watch((hooks) => resume(state, changes, hooks), stopAt);

/** A copy of the folder of the uninterrupted run: every test may change its own. */
async function copyOfReference(): Promise<string> {
  const folder = await tempFolder();
  await cp(reference.folder, folder, { recursive: true });
  return folder;
}

const validations = async (folder: string): Promise<MetricsRecord[]> =>
  (await readMetrics(join(folder, "metrics.jsonl"))).filter((record) => "validation" in record);

async function expectReference(folder: string): Promise<void> {
  const path = join(folder, "cat.safetensors");
  expect(await modelHash(path)).toBe(await modelHash(reference.run.result.weightsPath!));
  const metrics = (of: string) => stepRecords(join(of, "metrics.jsonl"));
  expect(await metrics(folder)).toEqual(await metrics(reference.folder));
  expect(await validations(folder)).toEqual(await validations(reference.folder));
}

beforeAll(async () => {
  pictures = await pictureFolder(3);
  const folder = await tempFolder();
  reference = { folder, run: await trainTiny(configIn(folder)) };
}, SLOW_MS);

test("the uninterrupted run saved what was asked for", async () => {
  expect((await readdir(reference.folder)).sort()).toEqual([
    "cat-state",
    "cat-step00000002-state",
    "cat-step00000002.safetensors",
    "cat-step00000004-state",
    "cat-step00000004.safetensors",
    "cat.safetensors",
    "metrics.jsonl",
  ]);
  const records = await stepRecords(join(reference.folder, "metrics.jsonl"));
  expect(records.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6]);
  expect((await validations(reference.folder)).map(({ step }) => step)).toEqual([3, 6]);
});

test(
  "from the state of step 2 it ends as if it had never stopped",
  async () => {
    const folder = await copyOfReference();
    const state = join(folder, "cat-step00000002-state");
    const { events, result } = await resumeFrom(state, { outputDir: folder });
    expect(events[0]).toEqual({ type: "resuming", stateDir: state, fromStep: 2, totalSteps: STEPS });
    expect(eventsOf(events, "start")[0]).toMatchObject({ resumedFromStep: 2 });
    expect(eventsOf(events, "step").map(({ step }) => step)).toEqual([3, 4, 5, 6]);
    expect(result).toMatchObject({ status: "completed", step: STEPS });
    await expectReference(folder);
    // Not only the factors: the optimizer's memory is the same, too.
    const [ours, theirs] = await Promise.all([folder, reference.folder].map(lastStateTensors));
    expect([...ours!.keys()]).toEqual([...theirs!.keys()]);
    for (const [name, { bytes }] of ours!) {
      expect(Buffer.from(bytes).equals(theirs!.get(name)!.bytes), name).toBe(true);
    }
  },
  SLOW_MS,
);

async function lastStateTensors(folder: string) {
  const state = join(folder, "cat-state");
  const data = (await readdir(state)).find((name) => name.endsWith(".safetensors"))!;
  return rawTensors(join(state, data));
}

test(
  "stopped at a validation, then made longer: nothing is left out or done twice",
  async () => {
    const folder = await tempFolder();
    // Asked to stop while step 3 is reported, so right before the validation that follows it.
    const first = await watch(
      (hooks) => train(configIn(folder, { maxTrainSteps: 4 }), hooks),
      (event) => event.type === "step" && event.step === 3,
    );
    expect(first.result).toMatchObject({ status: "interrupted", step: 3, weightsPath: null });
    expect(first.events.at(-1)).toMatchObject({
      type: "interrupted",
      step: 3,
      totalSteps: 4,
      stateDir: join(folder, "cat-step00000003-state"),
    });
    expect(eventsOf(first.events, "validation")).toEqual([]);

    const second = await resumeFrom(first.result.stateDir!);
    expect(eventsOf(second.events, "validation").map(({ step }) => step)).toEqual([3, 4]);
    expect(second.result).toMatchObject({ status: "completed", step: 4 });

    const third = await resumeFrom(second.result.stateDir!, { maxTrainSteps: STEPS });
    expect(eventsOf(third.events, "step").map(({ step }) => step)).toEqual([5, 6]);
    expect(await modelHash(third.result.weightsPath!)).toBe(
      await modelHash(reference.run.result.weightsPath!),
    );
    const metrics = (of: string) => stepRecords(join(of, "metrics.jsonl"));
    expect(await metrics(folder)).toEqual(await metrics(reference.folder));
    // The run of 4 steps validated at its end, and that is what the log of the longer one remembers.
    expect((await validations(folder)).map(({ step }) => step)).toEqual([3, 4, 6]);
    expect((await validations(folder))[0]).toEqual((await validations(reference.folder))[0]);
  },
  SLOW_MS,
);

describe("--max_train_steps is the total", () => {
  test("the step of the state: its LoRA file is written, and nothing is trained", async () => {
    const folder = await copyOfReference();
    const state = join(folder, "cat-step00000002-state");
    const { events, result } = await resumeFrom(state, { outputDir: folder, maxTrainSteps: 2 });
    expect(eventsOf(events, "step")).toEqual([]);
    expect(result).toMatchObject({ status: "completed", step: 2, totalSteps: 2 });
    expect(await modelHash(result.weightsPath!)).toBe(
      await modelHash(join(folder, "cat-step00000002.safetensors")),
    );
  });

  test("below it: an error that says what to give", async () => {
    const state = join(await copyOfReference(), "cat-step00000004-state");
    await expect(resumeFrom(state, { maxTrainSteps: 3 })).rejects.toMatchObject({
      code: "E_CONFIG",
      exitCode: 2,
      message: expect.stringContaining("is at step 4, behind the last one, 3"),
      note: expect.stringContaining("The state was left as it is."),
    });
  });

  test("epochs count as well, before the images are looked at", async () => {
    const state = join(await copyOfReference(), "cat-step00000002-state");
    // 2 pictures, twice an epoch, in steps of 4 samples: an epoch is a step.
    await expect(resumeFrom(state, { maxTrainEpochs: 1 })).rejects.toMatchObject({ code: "E_CONFIG" });
  });
});

describe("what a state does not fit is refused, and stays as it is", () => {
  test("other pictures or captions", async () => {
    const folder = await copyOfReference();
    const changed = await tempFolder();
    await cp(pictures, changed, { recursive: true });
    for (const name of await readdir(join(changed, "2_emoji"))) {
      if (name.endsWith(".txt")) await writeFile(join(changed, "2_emoji", name), "another caption");
    }
    const state = join(folder, "cat-step00000002-state");
    await expect(resumeFrom(state, { outputDir: folder, trainDataDir: changed })).rejects.toMatchObject({
      code: "E_INCOMPATIBLE",
      message: expect.stringContaining("images and captions"),
    });
    await expectReference(folder);
  });

  test("a picture of another size under the same name and caption", async () => {
    const changed = await tempFolder();
    await cp(pictures, changed, { recursive: true });
    const [first] = (await readdir(join(changed, "2_emoji"))).filter((name) => name.endsWith(".png"));
    const path = join(changed, "2_emoji", first!);
    // Bytes behind the picture's end: any decoder still reads it.
    await writeFile(path, Buffer.concat([await readFile(path), Buffer.alloc(3)]));
    const state = join(reference.folder, "cat-step00000002-state");
    await expect(resumeFrom(state, { trainDataDir: changed })).rejects.toMatchObject({
      code: "E_INCOMPATIBLE",
      message: expect.stringContaining("images and captions"),
    });
  });

  test.each([
    [{ networkDim: 8 }, "network_dim is 4 in the state, 8 was given"],
    [{ seed: 1 }, "seed is 7 in the state, 1 was given"],
    [{ unetLr: 0, networkTrainUnetOnly: false }, "its learning rate would be 0"],
    [{ networkTrainUnetOnly: false }, "network_train_unet_only"],
  ])("%j", async (changes, message) => {
    const state = join(reference.folder, "cat-step00000002-state");
    await expect(resumeFrom(state, changes)).rejects.toMatchObject({
      code: "E_CONFIG",
      message: expect.stringContaining(message),
    });
  });

  test("a damaged state", async () => {
    const folder = await copyOfReference();
    const state = join(folder, "cat-step00000002-state");
    const data = (await readdir(state)).find((name) => name.endsWith(".safetensors"))!;
    await using file = await SafetensorsFile.open(join(state, data));
    const bytes = Buffer.alloc(file.sizeBytes, 7);
    await writeFile(join(state, data), bytes);
    await expect(resumeFrom(state)).rejects.toMatchObject({ code: "E_FORMAT", exitCode: 3 });
  });
});
