/** Everything a run needs before its first step. */

import { join } from "node:path";
import {
  bucketsOf,
  checkResolution,
  checkSteps,
  DiskTensorCache,
  defaultCacheDir,
  listNames,
  MemoryTensorCache,
  Sampler,
  sizeName,
} from "../data/index.js";
import { Conditioning, requireVae, resolutionMultiple } from "../denoiser/conditioning.js";
import { Denoiser } from "../denoiser/denoiser.js";
import type { ComputeType } from "../denoiser/denoiser-graph.js";
import type { BranchFactors } from "../denoiser/factors.js";
import { type NetworkArgs, parseNetworkArgs, type RankPlan, rankPlanOf } from "../dylora/index.js";
import { HeldOut } from "../evaluation/held-out.js";
import { type Checkpoint, openCheckpoint } from "../models/checkpoint/index.js";
import { type LoraTarget, loraTargets } from "../models/lora-targets.js";
import { createNoiseSchedule } from "../models/noise-schedule.js";
import { type DeviceChoice, type DeviceName, float16Unavailable } from "../runtime/device.js";
import { chooseExecutionMode } from "../runtime/execution-mode.js";
import { type ResolvedDevice, resolveDevice } from "../runtime/resolve-device.js";
import type { ExecutionMode } from "../runtime/session.js";
import type { BatchOptions } from "./batches.js";
import { learningRatesOf, type TrainConfig } from "./config.js";
import { loadRunData, type RunData } from "./dataset.js";
import type { TrainHooks } from "./events.js";
import { loadNetwork, sizesFromWeights } from "./load-network.js";
import { freshNetwork, type NetworkSizes } from "./network.js";
import { createOptimizer, type Optimizer } from "./optimizer/index.js";
import { type RunLength, runLength } from "./run-length.js";
import { type PlannedSample, planSamples } from "./samples.js";
import { createTrainedModules, type TrainedModule } from "./trained-module.js";

/** Noise and timestep draws per validation image: one from each quarter of the timesteps. */
const VALIDATION_DRAWS = 4;

export interface PreparedRun extends RunLength {
  readonly config: TrainConfig;
  readonly seed: number;
  readonly checkpoint: Checkpoint;
  readonly networkArgs: NetworkArgs;
  readonly sizes: NetworkSizes;
  readonly plan: RankPlan;
  readonly targets: readonly LoraTarget[];
  readonly network: readonly BranchFactors[];
  readonly modules: readonly TrainedModule[];
  readonly optimizer: Optimizer;
  readonly device: DeviceName;
  readonly executionMode: ExecutionMode;
  /** Of activations and weights in the denoiser; factors and optimizer are float32. */
  readonly computeType: ComputeType;
  readonly denoiser: Denoiser;
  readonly conditioning: Conditioning;
  readonly data: RunData;
  readonly batches: BatchOptions;
  /** Null without held-out images. */
  readonly heldOut: HeldOut | null;
  /** The pictures that are drawn in the course of the run; null for none. */
  readonly samples: readonly PlannedSample[] | null;
}

/** What a run settled when it was started, and what its options and files need not give again. */
export interface SettledChoices {
  /** Sizes may come from a file (`--dim_from_weights`) that is not there any more. */
  readonly sizes: NetworkSizes;
  /** `auto` measures and looks at the memory that is free, and both may be different now. */
  readonly device: DeviceName;
  /** The modes differ in the last bits of their results. */
  readonly executionMode: ExecutionMode;
}

/**
 * Opens, checks and builds; executes nothing yet.
 *
 * @param config - complete, its seed drawn
 * @param settled - of a run that goes on, whose factors will come from its state
 */
export async function prepareRun(
  config: TrainConfig,
  seed: number,
  hooks: TrainHooks,
  settled: SettledChoices | null = null,
): Promise<PreparedRun> {
  // Devices are tried in processes of their own, while this one opens files. Earlier problems are told first.
  const prepared = new AbortController();
  const signal = AbortSignal.any([hooks.signal, prepared.signal]);
  const resolving = resolveDevice(deviceOf(config, settled), signal);
  resolving.catch(() => {});
  try {
    return await prepareOn(resolving, config, seed, hooks, settled);
  } finally {
    prepared.abort();
  }
}

async function prepareOn(
  resolving: Promise<ResolvedDevice>,
  config: TrainConfig,
  seed: number,
  hooks: TrainHooks,
  settled: SettledChoices | null,
): Promise<PreparedRun> {
  const { signal } = hooks;
  const preparing = (task: string) => (done: number, total: number | null) =>
    hooks.onEvent({ type: "preparing", task, done, total });
  const warn = (message: string) => hooks.onEvent({ type: "warning", message });

  preparing("opening the checkpoint")(0, null);
  const checkpoint = await openCheckpoint(config.pretrainedModelNameOrPath, {
    ...(config.v2 && { v2: true }),
    ...(config.vParameterization && { vParameterization: true }),
    ...(config.vae !== null && { vaePath: config.vae }),
  });
  const multiple = resolutionMultiple(checkpoint);
  if (config.enableBucket) checkSteps(config.bucketResoSteps, multiple);
  else checkResolution(config.resolution, multiple);
  const vae = requireVae(checkpoint);

  const networkArgs = parseNetworkArgs(config.networkArgs, config.networkModule);
  const sizes = settled?.sizes ?? (await networkSizes(config, networkArgs));
  const plan = rankPlanOf(config.networkModule, sizes.rank, { ...networkArgs, convDim: sizes.convRank });
  const samples = await planSamples(config, seed, checkpoint, plan);
  const rates = learningRatesOf(config);
  const configs = { unet: checkpoint.unet.config, textEncoder: checkpoint.textEncoder.config };
  const targets = loraTargets(configs, { convDim: sizes.convRank !== null }).filter(({ component }) =>
    component === "unet" ? rates.unet !== null : rates.textEncoder !== null,
  );
  const network =
    config.networkWeights === null || settled !== null
      ? freshNetwork(targets, sizes, seed)
      : await loadNetwork(
          config.networkWeights,
          targets,
          loraTargets(configs, { convDim: true }),
          sizes,
          seed,
        );
  const optimizer = createOptimizer(config.optimizerType, config.optimizerArgs);

  const data = await loadRunData(config, { signal, onProgress: preparing("checking the images") });
  for (const warning of [...data.warnings, ...repetitiveBatches(config, data)]) warn(warning);

  const { device, passedOver, float16 } = await resolving;
  if (device === "cpu") for (const reason of passedOver) warn(`not used: ${reason}`);
  if (config.mixedPrecision === "fp16" && !float16) throw float16Unavailable(device);
  const computeType: ComputeType = config.mixedPrecision === "fp16" ? "float16" : "float32";
  const sampler = samplerOf(config, data, seed);
  const length = runLength(config, sampler.plan);
  const executionMode =
    config.executionMode === "auto" && settled !== null && device === "cpu"
      ? settled.executionMode
      : chooseExecutionMode(config.executionMode, device, {
          steps: length.totalSteps * config.gradientAccumulationSteps,
          weights: checkpoint,
        });
  const threads = config.threads ?? undefined;
  const clipSkip = config.clipSkip ?? 1;
  const denoiser = new Denoiser({
    checkpoint,
    targets,
    device,
    mode: executionMode,
    maxRank: sizes.rank,
    threads,
    clipSkip,
    gradientCheckpointing: config.gradientCheckpointing,
    computeType,
  });
  const cache = config.cacheLatentsToDisk
    ? await DiskTensorCache.open(join(defaultCacheDir(config.trainDataDir)))
    : new MemoryTensorCache();
  const conditioning = await Conditioning.open({
    checkpoint,
    device,
    mode: executionMode,
    threads,
    clipSkip,
    textInGraph: denoiser.includesTextEncoder,
    ...config.resolution,
    encodesAhead: config.cacheLatents,
    latentCache: cache,
    textCache: cache,
  });

  const { predictionType } = checkpoint;
  const schedule = createNoiseSchedule({ zeroTerminalSnr: config.zeroTerminalSnr });
  const { scalingFactor } = vae.config;
  const batches: BatchOptions = {
    sampler,
    conditioning,
    schedule,
    predictionType,
    scalingFactor,
    seed,
    noiseOffset: config.noiseOffset ?? 0,
    minSnrGamma: config.minSnrGamma,
    minTimestep: config.minTimestep,
    maxTimestep: config.maxTimestep,
  };
  const heldOutItems = data.validation.items;
  const heldOut =
    heldOutItems.length === 0
      ? null
      : new HeldOut({
          items:
            config.maxValidationSteps === null
              ? heldOutItems
              : heldOutItems.slice(0, config.maxValidationSteps),
          draws: VALIDATION_DRAWS,
          seed: config.validationSeed ?? seed,
          batchSize: config.trainBatchSize,
          conditioning,
          schedule,
          predictionType,
          scalingFactor,
        });
  const modules = createTrainedModules(network, optimizer);
  return {
    config,
    seed,
    checkpoint,
    networkArgs,
    sizes,
    plan,
    targets,
    network: modules.map(({ factors }) => factors),
    modules,
    optimizer,
    device,
    executionMode,
    computeType,
    denoiser,
    conditioning,
    data,
    batches,
    heldOut,
    samples,
    ...length,
  };
}

/** Batches are full and of one size: a bucket of few images fills its batches with several samples of the same. */
function repetitiveBatches({ trainBatchSize }: TrainConfig, { train }: RunData): string[] {
  const small = bucketsOf(train.items).filter(({ sampleCount }) => sampleCount < trainBatchSize);
  if (small.length === 0) return [];
  return [
    `${small.length === 1 ? "one bucket has" : `${small.length} buckets have`} fewer samples an epoch than a batch of ` +
      `${trainBatchSize} (${listNames(small.map(sizeName), 5)}): batches there show an image more than once`,
  ];
}

async function networkSizes(config: TrainConfig, args: NetworkArgs): Promise<NetworkSizes> {
  if (config.dimFromWeights && config.networkWeights !== null) return sizesFromWeights(config.networkWeights);
  return {
    rank: config.networkDim,
    alpha: config.networkAlpha,
    convRank: args.convDim,
    convAlpha: args.convAlpha,
  };
}

/** A run that was computed on the CPU goes on there, bit by bit, even where `auto` would find a GPU by now. */
function deviceOf({ device }: TrainConfig, settled: SettledChoices | null): DeviceChoice {
  return device === "auto" && settled?.device === "cpu" ? "cpu" : device;
}

function samplerOf(config: TrainConfig, data: RunData, seed: number): Sampler {
  return new Sampler({
    items: data.train.items,
    batchSize: config.trainBatchSize,
    seed,
    flipAug: config.flipAug,
    caption: {
      prefix: config.captionPrefix ?? "",
      suffix: config.captionSuffix ?? "",
      dropoutRate: config.captionDropoutRate,
      shuffle: config.shuffleCaption,
      keepTokens: config.keepTokens,
    },
  });
}
