/** Pictures that are drawn while training (`--sample_prompts`). */
import { readdir, readFile, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import sharp from "sharp";
import { beforeAll, describe, expect, test } from "vitest";
import type { TrainConfig } from "../../src/training/config.js";
import { createTrainConfig, pointlessOptions } from "../../src/training/config.js";
import { readMetrics } from "../../src/training/metrics-log.js";
import { resume, train } from "../../src/training/train.js";
import { tempFolder } from "../helpers/temp-folder.js";
import {
  eventsOf,
  modelHash,
  pictureFolder,
  SLOW_MS,
  TINY_OPTIONS,
  tinyConfig,
  trainTiny,
  type WatchedRun,
  watch,
} from "../helpers/tiny-run.js";

let pictures: string;
let prompts: string;

const configIn = (outputDir: string, changes: Partial<TrainConfig> = {}) =>
  tinyConfig({ trainDataDir: pictures, outputDir, outputName: "cat", maxTrainSteps: 3, ...changes });

const SAMPLES = (): Partial<TrainConfig> => ({
  samplePrompts: prompts,
  sampleEveryNSteps: 2,
  sampleAtFirst: true,
  sampleRanks: [0, 4],
});

/** The pictures of a folder by name, without the time in it. */
async function samplesIn(outputDir: string): Promise<Map<string, string>> {
  const names = (await readdir(join(outputDir, "sample"))).sort();
  const entries = names.map(async (name) => {
    const png = await readFile(join(outputDir, "sample", name));
    return [name.replace(/_\d{14}_/, "_TIME_"), png.toString("base64")] as const;
  });
  return new Map(await Promise.all(entries));
}

let folder: string;
let run: WatchedRun;

beforeAll(async () => {
  pictures = await pictureFolder(3);
  prompts = join(await tempFolder(), "prompts.txt");
  await writeFile(
    prompts,
    "# two\na cat --s 2 --l 1\na dog --s 1 --d 5 --w 16 --h 16 --n cat --ss euler_a\n",
  );
  folder = await tempFolder();
  run = await trainTiny(configIn(folder, SAMPLES()));
}, SLOW_MS);

describe("a run with samples", () => {
  test("writes them under sd-scripts' names, at every rank, with their parameters", async () => {
    const samples = await samplesIn(folder);
    const expected = ["000000", "000002"].flatMap((step) =>
      ["00_TIME_7", "01_TIME_5"].flatMap((prompt) =>
        [0, 4].map((rank) => `cat_${step}_${prompt}_rank${rank}.png`),
      ),
    );
    expect([...samples.keys()].sort()).toEqual(expected.sort());
    const png = Buffer.from(samples.get("cat_000002_01_TIME_5_rank4.png")!, "base64");
    const { width, height, comments } = await sharp(png).metadata();
    expect([width, height]).toEqual([16, 16]);
    expect(comments![0]!.text).toMatch(
      /^a dog\nNegative prompt: cat\nSteps: 1, Sampler: Euler a, .*CFG scale: 7.5, Seed: 5, Size: 16x16, Model: sd1-tiny, Lora ranks: "cat: 4"/,
    );
  });

  test("shows what was trained: the base model stays, adapters move from it", async () => {
    const samples = await samplesIn(folder);
    const at = (step: string, rank: number) => samples.get(`cat_${step}_00_TIME_7_rank${rank}.png`);
    const pixels = async (step: string, rank: number) =>
      (
        await sharp(Buffer.from(at(step, rank)!, "base64"))
          .raw()
          .toBuffer()
      ).toString("hex");
    const base = await pixels("000000", 0);
    expect(await pixels("000002", 0)).toBe(base);
    // A fresh adapter does nothing.
    expect(await pixels("000000", 4)).toBe(base);
    expect(await pixels("000002", 4)).not.toBe(base);
  });

  test("reports them as events and in the metrics", async () => {
    const events = eventsOf(run.events, "sample");
    expect(events.map(({ step, rank, prompt, seed }) => [step, rank, prompt, seed]).slice(0, 4)).toEqual([
      [0, 0, "a cat", 7],
      [0, 4, "a cat", 7],
      [0, 0, "a dog", 5],
      [0, 4, "a dog", 5],
    ]);
    expect(events).toHaveLength(8);
    const records = (await readMetrics(join(folder, "metrics.jsonl"))).filter((one) => "samples" in one);
    expect(records.map(({ step }) => step)).toEqual([0, 2]);
    const [first] = Object.values(records[0]!.samples as Record<string, { path: string }>);
    expect(first).toEqual({ path: events[0]!.path, prompt: "a cat", seed: 7, rank: 0 });
    expect(basename(first!.path)).toMatch(/^cat_000000_00_\d{14}_7_rank0\.png$/);
  });

  test("trains the same adapter as without", { timeout: SLOW_MS }, async () => {
    const plain = await trainTiny(configIn(await tempFolder()));
    expect(await modelHash(plain.result.weightsPath!)).toBe(await modelHash(run.result.weightsPath!));
  });
});

test("a run that is stopped while it draws makes up for it when it goes on", {
  timeout: SLOW_MS,
}, async () => {
  const stopped = await tempFolder();
  let steps = 0;
  const first = await watch(
    (hooks) => train(configIn(stopped, SAMPLES()), hooks),
    (event) => {
      if (event.type === "step") steps = event.step;
      return steps === 2 && event.type === "preparing" && event.done === 1;
    },
  );
  expect(first.result).toMatchObject({ status: "interrupted", step: 2 });
  expect(eventsOf(first.events, "sample").map(({ step }) => step)).toEqual([0, 0, 0, 0]);
  const second = await watch((hooks) => resume(first.result.stateDir!, {}, hooks));
  expect(second.result.status).toBe("completed");
  expect(await samplesIn(stopped)).toEqual(await samplesIn(folder));
  expect(await modelHash(second.result.weightsPath!)).toBe(await modelHash(run.result.weightsPath!));
});

test("by epochs, with the text encoder in training, at the maximum rank", { timeout: SLOW_MS }, async () => {
  const outputDir = await tempFolder();
  const lines = join(outputDir, "one.json");
  await writeFile(lines, '["a cat --s 1 --l 1"]');
  // 3 pictures twice: an epoch of 6 steps.
  await trainTiny(
    configIn(outputDir, {
      networkTrainUnetOnly: false,
      samplePrompts: lines,
      sampleEveryNEpochs: 1,
      maxTrainSteps: 7,
    }),
  );
  expect([...(await samplesIn(outputDir)).keys()]).toEqual(["cat_e000001_00_TIME_7.png"]);
});

describe("what cannot be drawn is said before the first step", () => {
  const start = async (changes: Partial<TrainConfig>) => trainTiny(configIn(await tempFolder(), changes));

  test("ranks that are not trained", async () => {
    await expect(start({ ...SAMPLES(), sampleRanks: [3] })).rejects.toMatchObject({
      code: "E_RANK",
      note: "Trained are 2, 4; 0 is the base model. Nothing was started.",
    });
  });

  test("a size that the model cannot have, a file that is not there", async () => {
    const wide = join(await tempFolder(), "wide.txt");
    await writeFile(wide, "a cat --w 20");
    await expect(start({ ...SAMPLES(), samplePrompts: wide })).rejects.toMatchObject({ code: "E_USAGE" });
    await expect(start({ ...SAMPLES(), samplePrompts: `${wide}x.txt` })).rejects.toMatchObject({
      code: "E_NOT_FOUND",
    });
  });

  test("samples without prompts are a mistake, prompts without samples are pointless", () => {
    const input = { ...TINY_OPTIONS, trainDataDir: pictures };
    expect(() => createTrainConfig({ ...input, sampleEveryNSteps: 5 })).toThrow(
      "--sample_every_n_steps needs prompts: give a file with --sample_prompts",
    );
    // 0 is what kohya_ss writes for "off".
    const config = createTrainConfig({ ...input, samplePrompts: prompts, sampleEveryNSteps: 0 });
    expect(config.sampleEveryNSteps).toBeNull();
    expect(pointlessOptions(config, { samplePrompts: prompts })).toEqual([
      expect.stringMatching(/^--sample_prompts has no effect without/),
    ]);
  });
});
