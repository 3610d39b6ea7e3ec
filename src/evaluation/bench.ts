/** Compares ranks, and files, on held-out images. */

import { readBaseModel } from "../adapter/index.js";
import {
  assignBuckets,
  type BucketRules,
  bucketsOf,
  type Dataset,
  type DatasetItem,
  dropUnreadable,
  MemoryTensorCache,
  probeImages,
  scanEvaluationDir,
} from "../data/index.js";
import { Conditioning, requireVae, resolutionMultiple } from "../denoiser/conditioning.js";
import { Denoiser } from "../denoiser/denoiser.js";
import type { ActiveModule } from "../denoiser/factors.js";
import { DyloraError } from "../errors.js";
import { type Checkpoint, openCheckpoint } from "../models/checkpoint/index.js";
import { type PredictionType, vaeDownsampleFactor } from "../models/config.js";
import { type LoraTarget, loraTargets } from "../models/lora-targets.js";
import { createNoiseSchedule } from "../models/noise-schedule.js";
import { randomStream } from "../random/stream.js";
import { EXECUTION_PROVIDER } from "../runtime/device.js";
import { chooseSizeModes, modeOf } from "../runtime/execution-mode.js";
import { peakRssBytes } from "../runtime/peak-memory.js";
import { resolveDevice } from "../runtime/resolve-device.js";
import { absentModule, type BenchAdapter, openBenchAdapter } from "./bench-adapter.js";
import { benchSizes } from "./bench-sizes.js";
import type { BenchHooks, BenchOptions, BenchReport, FileResult } from "./bench-types.js";
import { HeldOut } from "./held-out.js";
import { PairedComparison, recommendRank } from "./statistics.js";

/**
 * Measures the base model and every file at every rank on the same images, noises and timesteps.
 *
 * @throws {DyloraError} `E_INCOMPATIBLE` for files that do not fit the base model, `E_RANK`, `E_DATA`, `E_DEVICE`, …
 */
export async function bench(options: BenchOptions, hooks: BenchHooks): Promise<BenchReport> {
  const startedAt = performance.now();
  const { signal, onProgress } = hooks;
  const checkpoint = await openCheckpoint(options.pretrainedModelNameOrPath, {
    ...(options.v2 && { v2: true }),
    ...(options.vParameterization && { vParameterization: true }),
    ...(options.vae !== null && { vaePath: options.vae }),
  });
  const configs = { unet: checkpoint.unet.config, textEncoder: checkpoint.textEncoder.config };
  const allTargets = loraTargets(configs, { convDim: true });
  const adapters: BenchAdapter[] = [];
  for (const path of options.files) adapters.push(await openBenchAdapter(path, allTargets, options.ranks));
  const { resolution, buckets: rules } = benchSizes(
    options,
    adapters.map(({ metadata }) => metadata),
    resolutionMultiple(checkpoint),
  );
  const data = await heldOutData(options, rules, signal);
  const buckets = bucketsOf(data.items);
  const { device } = await resolveDevice(options.device, signal);

  const used = new Set(adapters.flatMap(({ targets }) => targets.map(({ name }) => name)));
  const targets = allTargets.filter(({ name }) => used.has(name));
  const { predictionType, warnings } = predictionTypeOf(checkpoint, adapters);
  const zeroTerminalSnr = zeroTerminalSnrOf(adapters, warnings);
  const perImage = options.samples * (1 + adapters.reduce((n, { ranks }) => n + ranks.length, 0));
  const use = rules === null ? [{ ...resolution, imageCount: data.items.length }] : buckets;
  const modes = chooseSizeModes(options.executionMode, device, {
    sizes: use.map(({ width, height, imageCount }) => ({ width, height, steps: imageCount * perImage })),
    weights: checkpoint,
  });
  const threads = options.threads ?? undefined;
  const clipSkip = options.clipSkip ?? clipSkipOf(adapters) ?? 1;
  const factor = vaeDownsampleFactor(requireVae(checkpoint).config);
  const mode = ({ height, width }: { height: number; width: number }) =>
    modeOf(modes, { width: factor * width, height: factor * height });
  const maxRank = Math.max(...adapters.map((adapter) => adapter.maxRank));
  const denoiser = new Denoiser({ checkpoint, targets, device, mode, maxRank, threads, clipSkip });
  const conditioning = await Conditioning.open({
    checkpoint,
    device,
    threads,
    clipSkip,
    textInGraph: denoiser.includesTextEncoder,
    ...resolution,
    encodesAhead: true,
    latentCache: new MemoryTensorCache(),
    textCache: new MemoryTensorCache(),
  });
  try {
    await conditioning.latents.fill(data.items, {
      signal,
      onProgress: (done, total) => onProgress({ task: "encoding images", done, total }),
      ...(options.maxDataLoaderNWorkers === null ? {} : { workers: options.maxDataLoaderNWorkers }),
    });
    await conditioning.releaseEncoder();
    const heldOut = new HeldOut({
      items: data.items,
      draws: options.samples,
      seed: options.seed,
      batchSize: options.batchSize,
      conditioning,
      schedule: createNoiseSchedule({ zeroTerminalSnr }),
      predictionType,
      scalingFactor: requireVae(checkpoint).config.scalingFactor,
    });
    const total = heldOut.samples.length;
    const measure = (task: string, modules: readonly ActiveModule[]) =>
      heldOut
        .losses(denoiser, modules, { signal, onProgress: (done) => onProgress({ task, done, total }) })
        .catch((error: unknown) => {
          throw named(error, task);
        });

    const comparison = new PairedComparison(
      heldOut.samples.map(({ image }) => image),
      { seed: options.seed },
    );
    const base = await measure("base model", targets.map(absentModule));
    const files: FileResult[] = [];
    for (const adapter of adapters) {
      const losses = new Map<number, Float64Array>();
      for (const rank of adapter.ranks) {
        losses.set(
          rank,
          await measure(`rank ${rank} of ${adapter.path}`, allModules(targets, adapter.activate(rank))),
        );
      }
      files.push(fileResult(adapter, losses, base, comparison));
    }
    return {
      device,
      provider: EXECUTION_PROVIDER[device],
      modelPath: options.pretrainedModelNameOrPath,
      dataDir: options.data,
      ...resolution,
      buckets: buckets.map(({ width, height, imageCount }) => ({ width, height, imageCount })),
      imageCount: data.items.length,
      sampleCount: total,
      seed: options.seed,
      baseMeanLoss: comparison.mean(base),
      files,
      warnings: [...data.warnings, ...warnings],
      seconds: (performance.now() - startedAt) / 1000,
      peakRssBytes: peakRssBytes(),
    };
  } finally {
    await conditioning.release();
    await denoiser.release();
  }
}

/** Says which file, at which rank, an error belongs to. */
function named(error: unknown, task: string): unknown {
  if (!(error instanceof DyloraError) || error.code !== "E_DIVERGED") return error;
  const { code, message, note, cause } = error;
  return new DyloraError(code, `bench: ${task}: ${message}`, { ...(note && { note }), cause });
}

/** One active module for every target, whether the file has it or not. */
function allModules(targets: readonly LoraTarget[], active: readonly ActiveModule[]): ActiveModule[] {
  const byName = new Map(active.map((module) => [module.factors.target.name, module]));
  return targets.map((target) => byName.get(target.name) ?? absentModule(target));
}

function fileResult(
  adapter: BenchAdapter,
  losses: ReadonlyMap<number, Float64Array>,
  base: Float64Array,
  comparison: PairedComparison,
): FileResult {
  const full = losses.get(adapter.maxRank)!;
  const { rank: recommendedRank, reason } = recommendRank(
    comparison,
    [...losses].map(([rank, values]) => ({ rank, losses: values })),
    base,
  );
  return {
    path: adapter.path,
    maxRank: adapter.maxRank,
    ranks: [...losses].map(([rank, values]) => ({
      rank,
      meanLoss: comparison.mean(values),
      versusFullRank: rank === adapter.maxRank ? null : comparison.difference(values, full),
      versusBase: comparison.difference(values, base),
      fileSizeBytes: adapter.fileSizeBytes(rank),
    })),
    recommendedRank,
    recommendation: reason,
  };
}

async function heldOutData(
  options: BenchOptions,
  rules: BucketRules | null,
  signal: AbortSignal,
): Promise<Dataset> {
  const { captionExtension, maxImages, seed } = options;
  const scanned = await scanEvaluationDir(options.data, { captionExtension, optionName: "--data" });
  const chosen = { ...scanned, items: chooseItems(scanned.items, maxImages, seed) };
  const probed = await probeImages(chosen.items, { signal });
  const readable = dropUnreadable(chosen, probed);
  return rules === null ? readable : assignBuckets(readable, probed.readable, rules);
}

/** At most `count` items, drawn with the seed, in their own order. */
function chooseItems(
  items: readonly DatasetItem[],
  count: number | null,
  seed: number,
): readonly DatasetItem[] {
  if (count === null || count >= items.length) return items;
  const drawn = new Set(randomStream(seed, "bench images").shuffle(items).slice(0, count));
  return items.filter((item) => drawn.has(item));
}

/** Single files rarely say what their U-Net predicts; adapters that were trained on them do. */
function predictionTypeOf(
  checkpoint: Checkpoint,
  adapters: readonly BenchAdapter[],
): { predictionType: PredictionType; warnings: string[] } {
  const stated = adapters
    .map(({ metadata }) => readBaseModel(metadata, []).predictionType)
    .find((type) => type !== null);
  const { predictionType, predictionTypeSource } = checkpoint;
  if (stated === undefined || stated === null || stated === predictionType)
    return { predictionType, warnings: [] };
  if (predictionTypeSource === "default") {
    return {
      predictionType: stated,
      warnings: [
        `The checkpoint does not say what it predicts; ${stated}, as the adapter was trained with, is taken.`,
      ],
    };
  }
  return {
    predictionType,
    warnings: [`The adapter was trained with ${stated}, the base model predicts ${predictionType}.`],
  };
}

/** The noises of the schedule that the adapters were trained with. */
function zeroTerminalSnrOf(adapters: readonly BenchAdapter[], warnings: string[]): boolean {
  const trained = adapters.map(({ metadata }) => metadata.ss_zero_terminal_snr === "True");
  if (new Set(trained).size > 1) {
    warnings.push("Only some of the files were trained with zero_terminal_snr; all are measured with it.");
  }
  return trained.includes(true);
}

function clipSkipOf(adapters: readonly BenchAdapter[]): number | null {
  for (const { metadata } of adapters) {
    const value = Number(metadata.ss_clip_skip);
    if (Number.isSafeInteger(value) && value >= 1) return value;
  }
  return null;
}
