import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import { pictureFolder, SLOW_MS, tinyConfig } from "../../test/helpers/tiny-run.js";
import { Sampler } from "../data/index.js";
import type { TrainBatch } from "../denoiser/denoiser.js";
import { minSnrWeight } from "../models/noise-schedule.js";
import { type BatchOptions, loadBatches, trainBatch } from "./batches.js";
import { type PreparedRun, prepareRun } from "./prepare.js";

let run: PreparedRun;

beforeAll(async () => {
  const config = tinyConfig({
    trainDataDir: await pictureFolder(3),
    outputDir: await tempFolder(),
    trainBatchSize: 2,
  });
  run = await prepareRun(config, config.seed!, {
    onEvent: () => {},
    signal: new AbortController().signal,
  });
}, SLOW_MS);

afterAll(() => run.conditioning.release());

/** The batches `first` to `end - 1` of a run. */
async function load(
  changes: Partial<BatchOptions> = {},
  { first = 0, end = 4, workers = 1 } = {},
): Promise<TrainBatch[]> {
  const options = { ...run.batches, ...changes };
  const { signal } = new AbortController();
  const batches: TrainBatch[] = [];
  for await (const loaded of loadBatches(options, { first, end }, { workers, signal })) {
    batches.push(await trainBatch(options, loaded));
  }
  return batches;
}

describe("batches", () => {
  test("have the shapes that the denoiser takes", async () => {
    const [batch] = await load();
    // 16 pixels are 8 latents of the fixture's VAE.
    expect(batch).toMatchObject({ count: 2, height: 8, width: 8 });
    expect(batch!.sample).toHaveLength(2 * 4 * 8 * 8);
    expect(batch!.target).toHaveLength(2 * 4 * 8 * 8);
    expect(batch!.timesteps).toHaveLength(2);
    expect([...batch!.lossWeight]).toEqual([0.5, 0.5]);
    const { crossAttentionDim } = run.checkpoint.unet.config;
    expect(batch!.text).toMatchObject({ tokensPerPrompt: 77 });
    expect((batch!.text as { context: Float32Array }).context).toHaveLength(2 * 77 * crossAttentionDim);
  });

  test("are the same wherever loading starts, and with any number of workers", async () => {
    const all = await load();
    expect(await load({}, { first: 2 })).toEqual(all.slice(2));
    expect(await load({}, { workers: 0 })).toEqual(all);
    expect(await load({}, { workers: 3 })).toEqual(all);
  });

  test("every sample of the run has noise, timestep and latent of its own", async () => {
    const batches = await load({}, { end: 6 });
    const timesteps = batches.flatMap(({ timesteps }) => timesteps);
    expect(new Set(timesteps).size).toBeGreaterThan(10);
    const targets = batches.flatMap(({ target }) => [target[0], target[256]]);
    expect(new Set(targets).size).toBe(12);
    const other = await load({ seed: 8 });
    expect(other[0]!.target).not.toEqual(batches[0]!.target);
  });

  test("timesteps stay within their bounds", async () => {
    const batches = await load({ minTimestep: 300, maxTimestep: 303 }, { end: 12 });
    expect(new Set(batches.flatMap(({ timesteps }) => timesteps))).toEqual(new Set([300, 301, 302]));
  });

  test("min_snr_gamma weighs each sample by its timestep", async () => {
    for (const predictionType of ["epsilon", "v_prediction"] as const) {
      const [batch] = await load({ minSnrGamma: 5, predictionType, maxTimestep: 200 });
      expect([...batch!.lossWeight]).toEqual(
        batch!.timesteps.map((t) =>
          Math.fround(minSnrWeight(run.batches.schedule, t, 5, predictionType) / 2),
        ),
      );
      expect(batch!.lossWeight.some((weight) => weight < 0.4)).toBe(true);
    }
  });

  test("noise_offset shifts whole channels of the noise", async () => {
    const [plain] = await load();
    const [shifted] = await load({ noiseOffset: 0.1 });
    const shifts = [0, 1, 63, 64].map((i) => shifted!.target[i]! - plain!.target[i]!);
    expect(shifts[1]).toBeCloseTo(shifts[0]!, 6);
    expect(shifts[2]).toBeCloseTo(shifts[0]!, 6);
    expect(Math.abs(shifts[3]! - shifts[0]!)).toBeGreaterThan(1e-3);
  });

  test("v prediction wants another answer to the same noisy sample", async () => {
    const [epsilon] = await load({ predictionType: "epsilon" });
    const [velocity] = await load({ predictionType: "v_prediction" });
    expect(velocity!.sample).toEqual(epsilon!.sample);
    expect(velocity!.target).not.toEqual(epsilon!.target);
  });

  test("a dropped caption is the empty prompt", async () => {
    const sampler = (rate: number) =>
      new Sampler({
        items: run.data.train.items,
        batchSize: 2,
        seed: 7,
        caption: { prefix: "", suffix: "", dropoutRate: rate, shuffle: false, keepTokens: 0 },
      });
    const [kept] = await load({ sampler: sampler(0) });
    const [dropped] = await load({ sampler: sampler(1) });
    const half = (batch: TrainBatch, n: number) => {
      const { context } = batch.text as { context: Float32Array };
      return context.subarray((n * context.length) / 2, ((n + 1) * context.length) / 2);
    };
    expect(half(dropped!, 0)).toEqual(half(dropped!, 1));
    expect(half(kept!, 0)).not.toEqual(half(dropped!, 0));
  });
});
