/** Compares ranks, and files, on held-out images. */

import { cpus } from "node:os";
import { CLIP_TOKENS, type DatasetItem, MemoryTensorCache } from "../data/index.js";
import { Conditioning, requireVae } from "../denoiser/conditioning.js";
import { Denoiser, type DenoiserOptions } from "../denoiser/denoiser.js";
import { latentSize } from "../denoiser/session-memory.js";
import { createNoiseSchedule } from "../models/noise-schedule.js";
import { EXECUTION_PROVIDER } from "../runtime/device.js";
import { peakRssBytes } from "../runtime/peak-memory.js";
import type { BenchConfig } from "./bench-config.js";
import { estimateBenchBytes } from "./bench-estimate.js";
import { benchResults, type MeasuredBench, widestHalfWidth } from "./bench-report.js";
import { samplesInRounds } from "./bench-samples.js";
import { type BenchSetup, setUpBench } from "./bench-setup.js";
import type { BenchExtent, BenchHooks, BenchReport, BenchSettings } from "./bench-types.js";
import { baseVariant, distinctVariants, placesOf } from "./bench-variants.js";
import { modelKey } from "./content-keys.js";
import { HeldOut } from "./held-out.js";
import { LossStore } from "./loss-store.js";
import { type KeyedSample, Measurement } from "./measurement.js";
import { DEFAULT_CONFIDENCE, MIN_BOOTSTRAP_IMAGES } from "./statistics.js";
import { timestepBands } from "./timestep-bands.js";

/**
 * Measures the base model and every file at every rank, with every multiplier, on the same images, noises and timesteps.
 *
 * Losses that the cache has are not measured again, whatever run they come from; those that are measured are in it at once.
 *
 * @throws {DyloraError} `E_INCOMPATIBLE` for files that do not fit the base model, `E_RANK`, `E_DATA`, `E_DEVICE`,
 *   `E_DIVERGED`, `E_WRITE`, …; the signal's reason where it asks to stop
 */
export async function bench(config: BenchConfig, hooks: BenchHooks): Promise<BenchReport> {
  const startedAt = performance.now();
  const store = hooks.losses ?? (config.cache === null ? LossStore.inMemory() : LossStore.open(config.cache));
  try {
    const setup = await setUpBench(config, hooks.signal);
    const denoiser = denoiserOptions(setup);
    const { measured, extent } = await measure(setup, new Denoiser(denoiser), store, hooks);
    const report: BenchReport = {
      date: new Date().toISOString(),
      settings: settingsOf(setup),
      extent,
      bands: timestepBands(createNoiseSchedule().steps),
      images: setup.items.map(({ key, imagePath, caption }) => ({ key, path: imagePath, caption })),
      ...benchResults(measured),
      warnings: [...setup.warnings, ...warningsOf(extent, config, store)],
      seconds: (performance.now() - startedAt) / 1000,
      peakRssBytes: peakRssBytes(),
    };
    const { checkpoint, adapters } = setup;
    await hooks.onMeasured?.({
      report,
      checkpoint,
      denoiser,
      adapters: adapters.map(({ loaded }) => loaded),
    });
    return report;
  } finally {
    if (hooks.losses === undefined) store.close();
  }
}

function denoiserOptions({
  config,
  checkpoint,
  targets,
  device,
  mode,
  clipSkip,
}: BenchSetup): DenoiserOptions {
  return { checkpoint, targets, device, mode, threads: config.threads ?? undefined, clipSkip };
}

/** @param denoiser - is released */
async function measure(
  setup: BenchSetup,
  denoiser: Denoiser,
  store: LossStore,
  hooks: BenchHooks,
): Promise<{ measured: MeasuredBench; extent: BenchExtent }> {
  const { config, checkpoint, adapters, names, items, device, clipSkip } = setup;
  const { signal, onProgress } = hooks;
  const conditioning = await Conditioning.open({
    checkpoint,
    device,
    mode: denoiser.options.mode,
    threads: denoiser.options.threads,
    clipSkip,
    textInGraph: denoiser.includesTextEncoder,
    ...setup.size,
    latentCache: new MemoryTensorCache(),
    textCache: new MemoryTensorCache(),
  });
  try {
    const heldOut = new HeldOut({
      items,
      draws: config.samples,
      seed: config.seed,
      batchSize: config.batchSize,
      conditioning,
      schedule: createNoiseSchedule({ zeroTerminalSnr: setup.zeroTerminalSnr }),
      predictionType: setup.predictionType,
      scalingFactor: requireVae(checkpoint).config.scalingFactor,
    });
    const rounds = await samplesInRounds(setup, heldOut.samples, signal);
    const base = baseVariant(setup);
    const places = placesOf(setup);
    const measurement = new Measurement({
      heldOut,
      denoiser,
      batchSize: config.batchSize,
      variants: distinctVariants([base, ...places.map(({ variant }) => variant)]),
      model: await modelKey(setup),
      setting: timingSetting(setup),
      store,
      samples: rounds.flat(),
      prepare: (others) => prepare(others, { conditioning, denoiser, setup }, hooks),
      onProgress,
      signal,
    });
    if (measurement.missingLosses > 0) {
      // Before anything is computed that could not be kept.
      store.add([]);
      hooks.onPlan?.({
        imageCount: items.length,
        losses: measurement.missingLosses,
        mayStopEarly: config.until !== null,
        reusedLosses: rounds.flat().length * (1 + places.length) - measurement.missingLosses,
        device,
        estimatedPeakBytes: estimateBenchBytes(setup, denoiser),
      });
    }
    const resultOf = (samples: readonly KeyedSample[]): MeasuredBench => ({
      samples,
      base: {
        losses: measurement.losses(base.key, samples),
        seconds: measurement.seconds(base.key, samples),
      },
      adapters,
      names,
      variants: places.map(({ variant, ...place }) => ({
        ...place,
        losses: measurement.losses(variant.key, samples),
        seconds: measurement.seconds(variant.key, samples),
      })),
      multipliers: config.multiplier,
      tolerance: config.tolerance,
      seed: config.seed,
    });
    const used: KeyedSample[] = [];
    for (const round of rounds) {
      await measurement.measure(round);
      used.push(...round);
      if (config.until === null) continue;
      const halfWidth = widestHalfWidth(resultOf(used));
      // Of one image, no number of draws gives an interval.
      if (halfWidth <= config.until || !Number.isFinite(halfWidth)) break;
    }
    const measured = resultOf(used);
    const halfWidth = widestHalfWidth(measured);
    const extent: BenchExtent = {
      imageCount: items.length,
      drawsPerImage: used.length / items.length,
      sampleCount: used.length,
      measuredLosses: measurement.measuredLosses,
      reusedLosses: used.length * (1 + places.length) - measurement.measuredLosses,
      halfWidth,
      stoppedBy: config.until !== null && halfWidth <= config.until ? "until" : "samples",
    };
    return { measured, extent };
  } finally {
    await conditioning.release();
    await denoiser.release();
  }
}

/** Latents and captions first, and their sessions away; then the denoiser's session, which needs the memory. */
async function prepare(
  items: readonly DatasetItem[],
  models: { conditioning: Conditioning; denoiser: Denoiser; setup: BenchSetup },
  { signal, onProgress }: BenchHooks,
): Promise<void> {
  const { conditioning, denoiser, setup } = models;
  const { maxDataLoaderNWorkers: workers, batchSize } = setup.config;
  await conditioning.latents.fill(items, {
    signal,
    onProgress: (done, total) => onProgress({ task: "encoding images", done, total, secondsLeft: null }),
    ...(workers === null ? {} : { workers }),
  });
  await conditioning.releaseEncoder();
  await conditioning.fillTexts(
    items.map(({ caption }) => caption),
    signal,
  );
  await conditioning.releaseTextEncoder();
  const latents = latentSize(setup.checkpoint, setup.buckets[0] ?? setup.size);
  await denoiser.prepare("loss", { count: batchSize, ...latents }, CLIP_TOKENS);
}

/** Times of another machine, or of another way to compute, are no times of this one. */
function timingSetting({ device, mode, config }: BenchSetup): string {
  const machine = device === "cpu" ? (cpus()[0]?.model.trim() ?? "CPU") : device;
  return `${machine}, ${mode} mode, ${config.threads ?? "default"} threads, batch ${config.batchSize}`;
}

function settingsOf(setup: BenchSetup): BenchSettings {
  const { config, device, mode, predictionType, zeroTerminalSnr, clipSkip, size } = setup;
  return {
    modelPath: config.pretrainedModelNameOrPath,
    dataDir: config.data,
    ...size,
    buckets: setup.buckets,
    device,
    provider: EXECUTION_PROVIDER[device],
    executionMode: mode,
    threads: config.threads,
    batchSize: config.batchSize,
    predictionType,
    zeroTerminalSnr,
    clipSkip,
    seed: config.seed,
    multipliers: config.multiplier,
    tolerance: config.tolerance,
    until: config.until,
    confidence: DEFAULT_CONFIDENCE,
  };
}

function warningsOf(
  { halfWidth, stoppedBy, imageCount }: BenchExtent,
  { until }: BenchConfig,
  store: LossStore,
): string[] {
  const warnings: string[] = [];
  if (store.unreadableLines > 0) {
    warnings.push(
      `${store.path}: ${store.unreadableLines} lines are no losses; what they may have been was measured again.`,
    );
  }
  if (imageCount < MIN_BOOTSTRAP_IMAGES) {
    warnings.push(
      imageCount === 1
        ? `One image gives no intervals, for nothing tells how images differ: measure on ${MIN_BOOTSTRAP_IMAGES} or more.`
        : `Intervals of ${imageCount} images rest on the assumption that differences are normally distributed, and are too narrow ` +
            `where they are not: measure on ${MIN_BOOTSTRAP_IMAGES} or more before you trust them.`,
    );
  }
  if (until !== null && stoppedBy === "samples" && imageCount > 1) {
    warnings.push(
      `--until ${until} was not reached: half the widest interval is ${Number(halfWidth.toPrecision(2))} of the base model's loss. ` +
        "More --samples narrow it, and more images.",
    );
  }
  return warnings;
}
