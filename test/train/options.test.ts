/** What the options of a run change, and what they must not. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { openAdapter } from "../../src/adapter/index.js";
import type { TrainConfig } from "../../src/training/config.js";
import { tempFolder } from "../helpers/temp-folder.js";
import {
  benchTiny,
  eventsOf,
  metadataOf,
  modelHash,
  pictureFolder,
  SLOW_MS,
  tinyConfig,
  trainTiny,
} from "../helpers/tiny-run.js";

let pictures: string;

beforeAll(async () => {
  pictures = await pictureFolder(3);
});

async function run(changes: Partial<TrainConfig> = {}) {
  const outputDir = await tempFolder();
  const watched = await trainTiny(tinyConfig({ trainDataDir: pictures, outputDir, ...changes }));
  return { ...watched, outputDir, weights: watched.result.weightsPath! };
}

function expectClose(found: readonly number[], expected: readonly number[], tolerance: number): void {
  expect(found).toHaveLength(expected.length);
  for (const [index, value] of found.entries()) {
    expect(Math.abs(value / expected[index]! - 1)).toBeLessThan(tolerance);
  }
}

describe("how images are loaded and the graph is executed does not change what is learned", () => {
  let plain: Awaited<ReturnType<typeof run>>;

  beforeAll(async () => {
    plain = await run();
  }, SLOW_MS);

  test.each<[string, Partial<TrainConfig>]>([
    ["cached latents, no workers", { cacheLatents: true, maxDataLoaderNWorkers: 0 }],
    ["latents cached on disk, two workers", { cacheLatentsToDisk: true, maxDataLoaderNWorkers: 2 }],
    ["the same disk cache again, not cached in advance", { maxDataLoaderNWorkers: 2 }],
  ])(
    "%s: the same file, bit by bit",
    async (_, changes) => {
      const other = await run(changes);
      expect(other.losses).toEqual(plain.losses);
      expect(await modelHash(other.weights)).toBe(await modelHash(plain.weights));
      if (changes.cacheLatentsToDisk) {
        expect((await readdir(join(pictures, ".dylora-cache"))).length).toBeGreaterThan(0);
      }
    },
    SLOW_MS,
  );

  test.each<[string, Partial<TrainConfig>]>([
    ["fast mode", { executionMode: "fast" }],
    ["gradient checkpointing", { gradientCheckpointing: true }],
  ])(
    "%s: the same losses but for rounding",
    async (_, changes) => {
      const { losses } = await run(changes);
      expectClose(losses.slice(0, 1), plain.losses.slice(0, 1), 1e-5);
      // AdamW's first steps look at the sign of a gradient, however small, so that rounding shows soon.
      expectClose(losses, plain.losses, 1e-2);
    },
    SLOW_MS,
  );

  test(
    "another seed is another run",
    async () => {
      const other = await run({ seed: 8, maxTrainSteps: 1 });
      expect(other.losses[0]).not.toBeCloseTo(plain.losses[0]!, 4);
    },
    SLOW_MS,
  );
});

test(
  "a batch of two learns what two micro-steps of one learn",
  async () => {
    // An ordinary LoRA: a DyLoRA draws a rank for every micro-step.
    const lora: Partial<TrainConfig> = { networkModule: "lora", networkArgs: [], maxTrainSteps: 2 };
    const batch = await run({ ...lora, trainBatchSize: 2 });
    const microSteps = await run({ ...lora, gradientAccumulationSteps: 2 });
    expectClose(microSteps.losses, batch.losses, 1e-3);
    expect(eventsOf(batch.events, "step").map(({ ranks }) => ranks)).toEqual([[4], [4]]);
    expect(await metadataOf(batch.weights)).toMatchObject({
      ss_network_module: "networks.lora",
      ss_total_batch_size: "2",
    });
  },
  SLOW_MS,
);

test(
  "everything at once: both components, convolutions, ranks by module, velocity, weights of the loss",
  async () => {
    const { events, weights, losses, outputDir } = await run({
      networkTrainUnetOnly: false,
      networkArgs: ["unit=2", "conv_dim=2", "rank_draw=module", "rank_distribution=geometric"],
      vParameterization: true,
      minSnrGamma: 5,
      noiseOffset: 0.1,
      zeroTerminalSnr: true,
      clipSkip: 2,
      flipAug: true,
      captionPrefix: "a word for all, ",
      textEncoderLr: 1e-3,
      lrScheduler: "linear",
      lrWarmupSteps: 1,
      optimizerType: "Lion",
      maxTrainEpochs: 1,
      saveEveryNEpochs: 1,
      savePrecision: "fp16",
      outputName: "all",
    });
    // 3 pictures, twice an epoch.
    expect(losses).toHaveLength(6);
    expect(losses.every((loss) => Number.isFinite(loss) && loss > 0)).toBe(true);
    const [start] = eventsOf(events, "start");
    expect(start!.network.textEncoderModules).toBeGreaterThan(0);
    expect(start!.baseModel.predictionType).toBe("v");
    const rates = eventsOf(events, "step").map(({ learningRates }) => learningRates);
    expect(rates[0]).toEqual({ unet: 0, textEncoder: 0 });
    expect(rates[1]!.unet! / rates[1]!.textEncoder!).toBeCloseTo(10, 6);

    await using adapter = await openAdapter(weights);
    const kinds = new Set(adapter.modules.map(({ component, kind }) => `${component} ${kind}`));
    expect([...kinds].sort()).toEqual(["text_encoder linear", "unet conv1x1", "unet conv3x3", "unet linear"]);
    for (const { kind, rank, down } of adapter.modules) {
      expect(rank).toBe(kind === "conv3x3" ? 2 : 4);
      expect(down.dtype).toBe("F16");
    }
    expect(adapter.dylora).toMatchObject({ isDylora: true, unit: 2, alphaRule: "paper", updateMode: "full" });
    expect(adapter.metadata).toMatchObject({
      ss_clip_skip: "2",
      ss_min_snr_gamma: "5.0",
      ss_noise_offset: "0.1",
      ss_zero_terminal_snr: "True",
      ss_steps: "6",
      ss_epoch: "1",
    });
    // The last epoch's file is the run's own.
    expect((await readdir(outputDir)).sort()).toEqual(["all.safetensors", "metrics.jsonl"]);
    // And whoever measures it does so as it was trained.
    const report = await benchTiny([weights], { data: pictures, samples: 1, maxImages: 1, ranks: [4] });
    expect(report.settings).toMatchObject({ width: 16, height: 16, clipSkip: 2, zeroTerminalSnr: true });
    expect(report.warnings.join()).toContain("v_prediction");
  },
  SLOW_MS,
);

test(
  "a caption that is too long is said to be cut, once",
  async () => {
    const { events } = await run({ captionPrefix: "very ".repeat(100), maxTrainSteps: 2 });
    const warnings = eventsOf(events, "warning").filter(({ message }) => message.includes("75 tokens"));
    expect(warnings).toHaveLength(1);
  },
  SLOW_MS,
);

test(
  "it learns: every rank ends below the base model on what it was trained on",
  async () => {
    const one = await pictureFolder(1, "1_emoji");
    const { losses, weights } = await run({
      trainDataDir: one,
      maxTrainSteps: 30,
      learningRate: 3e-2,
      networkArgs: ["unit=2"],
    });
    const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
    expect(mean(losses.slice(-10))).toBeLessThan(0.9 * mean(losses.slice(0, 3)));
    const report = await benchTiny([weights], { data: one, samples: 8 });
    for (const { rank, multipliers } of report.files[0]!.ranks) {
      expect(multipliers[0]!.meanLoss, `rank ${rank}`).toBeLessThan(0.97 * report.base.meanLoss);
    }
  },
  SLOW_MS,
);

test(
  "a step longer than an epoch still saves the epochs that are due",
  async () => {
    // 3 pictures once an epoch, 4 samples a step.
    const { outputDir } = await run({
      trainDataDir: await pictureFolder(3, "1_emoji"),
      gradientAccumulationSteps: 4,
      maxTrainSteps: 4,
      saveEveryNEpochs: 3,
    });
    // Epoch 3 ends within step 3, together with epoch 4.
    expect((await readdir(outputDir)).sort()).toEqual([
      "last-000003.safetensors",
      "last.safetensors",
      "metrics.jsonl",
    ]);
  },
  SLOW_MS,
);
