/** The log of a run whose numbers are made up, for tests of what is done with one. */

import { join } from "node:path";
import { randomStream } from "../../src/random/stream.js";
import { createTrainConfig } from "../../src/training/config.js";
import { LossAverages } from "../../src/training/metrics-averages.js";
import { MetricsLog, type MetricsValue } from "../../src/training/metrics-log.js";
import type { StartFacts } from "../../src/training/step-report.js";

export interface SampleRunOptions {
  readonly steps?: number;
  readonly totalSteps?: number;
  readonly ranks?: readonly number[];
  /** Steps after which the run was stopped and went on. */
  readonly resumedAt?: readonly number[];
  readonly validateEvery?: number;
  /** Pictures that were drawn every so many steps, in turn. */
  readonly pictures?: { readonly every: number; readonly paths: readonly string[] };
}

/** Writes `metrics.jsonl` into a folder. @returns its path */
export async function writeSampleRunLog(folder: string, options: SampleRunOptions = {}): Promise<string> {
  const { steps = 120, totalSteps = steps, ranks = [4, 8, 12, 16], resumedAt = [] } = options;
  const path = join(folder, "metrics.jsonl");
  const log = await MetricsLog.create(path, 1);
  const started = sampleStart(folder, totalSteps, ranks);
  const start = (step: number) =>
    log.append({ step, started: { ...started, resumedFromStep: step || null } as unknown as MetricsValue });
  start(0);
  const stream = randomStream(1, "sample run");
  const averages = new LossAverages();
  let drawn = 0;
  for (let step = 1; step <= steps; step++) {
    const rank = ranks[stream.int(ranks.length)]!;
    const loss = (0.13 + 0.02 * Math.exp(-step / 300) + 0.004 / rank) * Math.exp(0.5 * stream.normal());
    averages.add(rank, loss);
    const warmUp = Math.min(1, step / 50);
    log.append({
      step,
      epoch: Math.ceil(step / 50),
      loss,
      lossEma: averages.overall.value!,
      draws: { 0: { rank, loss } },
      learningRates: { unet: 1e-4 * warmUp, textEncoder: 5e-5 * warmUp },
      gradNorm: 0.1 * Math.exp(0.3 * stream.normal()),
      secondsPerStep: 1.2 + rank / 40 + (step === 70 ? 30 : 0.05 * stream.uniform()),
      rssBytes: 5.1e9 + 2e7 * stream.uniform(),
    });
    if (options.validateEvery !== undefined && step % options.validateEvery === 0) {
      const lossByRank = Object.fromEntries(
        ranks.map((each) => [each, 0.128 + 0.02 * Math.exp(-step / 300) + 0.01 / each]),
      );
      log.append({ step, validation: { sampleCount: 48, lossByRank } });
    }
    const { pictures } = options;
    if (pictures !== undefined && step % pictures.every === 0) {
      const rows = ["a cat on a sofa", 'a "quoted" <dog> & more'].map((prompt, index) => [
        index,
        { path: pictures.paths[drawn++ % pictures.paths.length]!, prompt, seed: 42 + index, rank: 16 },
      ]);
      log.append({ step, samples: Object.fromEntries(rows) });
    }
    if (resumedAt.includes(step)) start(step);
  }
  log.close();
  return path;
}

function sampleStart(outputDir: string, totalSteps: number, ranks: readonly number[]): StartFacts {
  const maxRank = ranks.at(-1)!;
  return {
    startedAt: "2026-11-23T01:02:03.000Z",
    device: "cpu",
    provider: "CPUExecutionProvider",
    dtype: "float32",
    executionMode: "fast",
    residentStep: false,
    baseModel: { path: "/models/sd15.safetensors", version: "sd_v1", predictionType: "epsilon" },
    network: {
      module: ranks.length > 1 ? "dylora" : "lora",
      maxRank,
      unit: ranks[0]!,
      alpha: 16,
      updateMode: "full",
      ranks,
      unetModules: 192,
      textEncoderModules: 72,
      trainableParameters: 3_188_736,
      trainablePercent: 0.32,
    },
    data: {
      imageCount: 48,
      samplesPerEpoch: 480,
      validationImageCount: 12,
      width: 512,
      height: 512,
      buckets: [],
    },
    batchSize: 1,
    gradientAccumulationSteps: 1,
    totalSteps,
    totalEpochs: Math.ceil(totalSteps / 480),
    seed: 42,
    estimatedPeakBytes: 5.4e9,
    sharedWeightBytes: 0,
    outputDir,
    resumedFromStep: null,
    config: createTrainConfig({
      pretrainedModelNameOrPath: "/models/sd15.safetensors",
      trainDataDir: "/data/cats",
      outputDir,
      outputName: "cat",
      networkDim: maxRank,
      maxTrainSteps: totalSteps,
    }),
  };
}
