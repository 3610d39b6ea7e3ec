/** What a rank comparison settles before it computes anything: files, images, and how they are measured. */

import {
  assignBuckets,
  type BucketRules,
  bucketsOf,
  type Dataset,
  type DatasetItem,
  dropUnreadable,
  type ImageSize,
  probeImages,
  scanEvaluationDir,
} from "../data/index.js";
import { resolutionMultiple } from "../denoiser/conditioning.js";
import { type Checkpoint, openCheckpoint } from "../models/checkpoint/index.js";
import type { PredictionType } from "../models/config.js";
import type { LoraTarget } from "../models/lora-targets.js";
import { randomStream } from "../random/stream.js";
import type { DeviceName } from "../runtime/device.js";
import { chooseExecutionMode } from "../runtime/execution-mode.js";
import { resolveDevice } from "../runtime/resolve-device.js";
import type { ExecutionMode } from "../runtime/session.js";
import { adapterTargets } from "../sampling/loaded-adapter.js";
import { trainedWith } from "../sampling/trained-with.js";
import { type BenchAdapter, openBenchAdapters } from "./bench-adapter.js";
import type { BenchConfig } from "./bench-config.js";
import { benchSizes } from "./bench-sizes.js";
import { shortNames } from "./file-names.js";

export interface BenchSetup {
  readonly config: BenchConfig;
  readonly checkpoint: Checkpoint;
  readonly adapters: readonly BenchAdapter[];
  /** Of the adapters' files. */
  readonly names: readonly string[];
  /** Every module that any of the files has. */
  readonly targets: readonly LoraTarget[];
  readonly items: readonly DatasetItem[];
  /** Of the images, in pixels; with buckets the size whose area they have. */
  readonly size: ImageSize;
  /** The sizes of the images and how many have each; empty without buckets. */
  readonly buckets: readonly (ImageSize & { readonly imageCount: number })[];
  readonly device: DeviceName;
  readonly mode: ExecutionMode;
  readonly predictionType: PredictionType;
  readonly zeroTerminalSnr: boolean;
  readonly clipSkip: number;
  readonly warnings: readonly string[];
}

/**
 * Opens and checks; options that were left out are taken from what the adapters were trained with.
 *
 * @throws {DyloraError} `E_INCOMPATIBLE` for files that do not fit the base model, `E_RANK`, `E_DATA`, `E_DEVICE`, …
 */
export async function setUpBench(config: BenchConfig, signal: AbortSignal): Promise<BenchSetup> {
  const checkpoint = await openCheckpoint(config.pretrainedModelNameOrPath, {
    ...(config.v2 && { v2: true }),
    ...(config.vParameterization && { vParameterization: true }),
    ...(config.vae !== null && { vaePath: config.vae }),
  });
  const adapters = await openBenchAdapters(config.files, checkpoint, config.ranks);
  const metadata = adapters.map(({ loaded }) => loaded.metadata);
  const trained = trainedWith(checkpoint, metadata);
  const { resolution, buckets: rules } = benchSizes(config, metadata, resolutionMultiple(checkpoint));
  const data = await heldOutData(config, rules, signal);
  const { device } = await resolveDevice(config.device, signal);
  const variants = adapters.reduce((count, { ranks }) => count + ranks.length * config.multiplier.length, 0);
  const mode = chooseExecutionMode(config.executionMode, device, {
    steps: (data.items.length * config.samples * (1 + variants)) / config.batchSize,
    weights: checkpoint,
  });
  const changed = new Set(adapters.flatMap(({ loaded }) => loaded.targets.map(({ name }) => name)));
  return {
    config,
    checkpoint,
    adapters,
    names: shortNames(config.files),
    targets: adapterTargets(checkpoint).filter(({ name }) => changed.has(name)),
    items: data.items,
    size: resolution,
    buckets: bucketsOf(data.items).map(({ width, height, imageCount }) => ({ width, height, imageCount })),
    device,
    mode,
    predictionType: trained.predictionType,
    zeroTerminalSnr: trained.zeroTerminalSnr,
    clipSkip: config.clipSkip ?? trained.clipSkip ?? 1,
    warnings: [...data.warnings, ...trained.warnings],
  };
}

async function heldOutData(
  config: BenchConfig,
  rules: BucketRules | null,
  signal: AbortSignal,
): Promise<Dataset> {
  const { captionExtension, maxImages, seed } = config;
  const scanned = await scanEvaluationDir(config.data, { captionExtension, optionName: "--data" });
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
