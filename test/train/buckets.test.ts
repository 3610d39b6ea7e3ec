/** Pictures of several shapes: trained in buckets, measured in buckets, told in the file. */
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { bucketsOf } from "../../src/data/index.js";
import type { TrainConfig } from "../../src/training/config.js";
import { prepareRun } from "../../src/training/prepare.js";
import { tempFolder } from "../helpers/temp-folder.js";
import {
  benchTiny,
  eventsOf,
  metadataOf,
  SLOW_MS,
  shapedFolder,
  TINY_BUCKETS,
  tinyConfig,
  trainTiny,
  type WatchedRun,
} from "../helpers/tiny-run.js";

/** Aspect ratios 1/3, 1 and 3: buckets 16x48, 32x32 and 48x16, of 1, 3 and 2 pictures; one more of two is held out. */
const SHAPES = [
  [50, 50],
  [90, 30],
  [32, 32],
  [30, 90],
  [80, 80],
  [96, 32],
] as const;
const HELD_OUT = [
  [45, 45],
  [60, 20],
] as const;

let pictures: string;
let heldOut: string;
let run: WatchedRun;

const config = (outputDir: string, changes: Partial<TrainConfig> = {}) =>
  tinyConfig({
    trainDataDir: pictures,
    validationDir: heldOut,
    outputDir,
    ...TINY_BUCKETS,
    maxTrainEpochs: 1,
    trainBatchSize: 2,
    cacheLatents: true,
    ...changes,
  });

beforeAll(async () => {
  [pictures, heldOut] = await Promise.all([shapedFolder(SHAPES, "2_shape"), shapedFolder(HELD_OUT)]);
  run = await trainTiny(config(await tempFolder()));
}, SLOW_MS);

describe("a run with buckets", () => {
  test("lists them at its start", () => {
    const [start] = eventsOf(run.events, "start");
    expect(start!.data).toMatchObject({ imageCount: 6, samplesPerEpoch: 12, validationImageCount: 2 });
    expect(start!.data.buckets).toEqual([
      { width: 16, height: 48, imageCount: 1, sampleCount: 2 },
      { width: 32, height: 32, imageCount: 3, sampleCount: 6 },
      { width: 48, height: 16, imageCount: 2, sampleCount: 4 },
    ]);
    // Weights of the U-Net are mapped by three sessions to train and two to validate.
    expect(start!.sharedWeightBytes).toBeGreaterThan(0);
    expect(start!.sharedWeightBytes).toBeLessThan(start!.estimatedPeakBytes);
  });

  test("takes the steps that its buckets need, and measures every held-out picture at its size", () => {
    // Batches of 2: 1 + 3 + 2 an epoch.
    expect(run.result).toMatchObject({ status: "completed", step: 6, totalSteps: 6 });
    const steps = eventsOf(run.events, "step");
    expect(steps.map(({ epoch }) => epoch)).toEqual([1, 1, 1, 1, 1, 1]);
    expect(steps.every(({ loss }) => Number.isFinite(loss))).toBe(true);
    const validations = eventsOf(run.events, "validation");
    expect(validations.map(({ step, sampleCount }) => [step, sampleCount])).toEqual([[6, 8]]);
  });

  test("writes them into the file as sd-scripts does", async () => {
    const metadata = await metadataOf(run.result.weightsPath!);
    expect(metadata).toMatchObject({
      ss_resolution: "(32, 32)",
      ss_enable_bucket: "True",
      ss_bucket_no_upscale: "False",
      ss_min_bucket_reso: "16",
      ss_max_bucket_reso: "64",
      ss_bucket_reso_steps: "16",
      ss_num_batches_per_epoch: "6",
      ss_bucket_info:
        '{"buckets": {"0": {"resolution": [16, 48], "count": 2}, "1": {"resolution": [32, 32], "count": 6}, ' +
        '"2": {"resolution": [48, 16], "count": 4}}, "mean_img_ar_error": 0.0}',
    });
  });

  test(
    "is measured by bench at the sizes that it was trained at, unless a resolution is given",
    async () => {
      const report = await benchTiny([run.result.weightsPath!], { data: heldOut, ranks: [4] });
      expect(report.settings).toMatchObject({ width: 32, height: 32 });
      expect(report.extent).toMatchObject({ imageCount: 2, sampleCount: 8 });
      expect(report.settings.buckets).toEqual([
        { width: 32, height: 32, imageCount: 1 },
        { width: 48, height: 16, imageCount: 1 },
      ]);
      const resolution = { width: 16, height: 16 };
      const fixed = await benchTiny([run.result.weightsPath!], {
        data: heldOut,
        resolution,
        ranks: [4],
      });
      expect(fixed.settings).toMatchObject({ ...resolution, buckets: [] });
    },
    SLOW_MS,
  );
});

test("without upscaling, pictures that are too small are left out with a warning", async () => {
  const folder = await shapedFolder([
    [40, 24],
    [15, 60],
  ]);
  const warnings: string[] = [];
  const prepared = await prepareRun(
    config(await tempFolder(), { trainDataDir: folder, validationDir: null, bucketNoUpscale: true }),
    7,
    {
      onEvent: (event) => event.type === "warning" && warnings.push(event.message),
      signal: new AbortController().signal,
    },
  );
  expect(bucketsOf(prepared.data.train.items)).toEqual([
    { width: 32, height: 16, imageCount: 1, sampleCount: 1 },
  ]);
  expect(warnings).toContainEqual(expect.stringMatching(/skipped 1 image .*1\.png \(15x60\).*16 px/));
  // A batch of 2 of one picture.
  expect(warnings).toContainEqual(expect.stringContaining("batch of 2 (32x16)"));
  expect(prepared.totalSteps).toBe(1);
});

test("steps of another multiple than the model needs are refused before anything is written", async () => {
  const out = join(await tempFolder(), "out");
  await expect(trainTiny(config(out, { bucketResoSteps: 8 }))).rejects.toMatchObject({
    code: "E_CONFIG",
    message: expect.stringContaining("multiple of 16"),
  });
});
