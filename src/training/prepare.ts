/** Everything a run needs before its first step. */

import { join } from "node:path";
import {
  checkResolution,
  DiskTensorCache,
  defaultCacheDir,
  MemoryTensorCache,
  Sampler,
} from "../data/index.js";
import { Conditioning, requireVae, resolutionMultiple } from "../denoiser/conditioning.js";
import { Denoiser } from "../denoiser/denoiser.js";
import type { BranchFactors } from "../denoiser/factors.js";
import { type NetworkArgs, parseNetworkArgs, type RankPlan, rankPlanOf } from "../dylora/index.js";
import { HeldOut } from "../evaluation/held-out.js";
import { type Checkpoint, openCheckpoint } from "../models/checkpoint/index.js";
import { type LoraTarget, loraTargets } from "../models/lora-targets.js";
import { createNoiseSchedule } from "../models/noise-schedule.js";
import type { DeviceName } from "../runtime/device.js";
import { chooseExecutionMode } from "../runtime/execution-mode.js";
import { resolveDevice } from "../runtime/resolve-device.js";
import type { ExecutionMode } from "../runtime/session.js";
import type { BatchOptions } from "./batches.js";
import { learningRatesOf, type TrainConfig } from "./config.js";
import { loadRunData, type RunData } from "./dataset.js";
import type { TrainHooks } from "./events.js";
import { loadNetwork, sizesFromWeights } from "./load-network.js";
import { freshNetwork, type NetworkSizes } from "./network.js";
import { createFactorState, createOptimizer, type Optimizer } from "./optimizer/index.js";
import type { TrainedModule } from "./step.js";

/** Noise and timestep draws per validation image: one from each quarter of the timesteps. */
const VALIDATION_DRAWS = 4;

export interface PreparedRun {
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
  readonly mode: ExecutionMode;
  readonly denoiser: Denoiser;
  readonly conditioning: Conditioning;
  readonly data: RunData;
  readonly batches: BatchOptions;
  /** Null without held-out images. */
  readonly heldOut: HeldOut | null;
  readonly totalSteps: number;
  readonly totalEpochs: number;
  readonly stepsPerEpoch: number;
}

/**
 * Opens, checks and builds; executes nothing yet.
 *
 * @param config - complete, its seed drawn
 * @param savedSizes - sizes of the network of a run that goes on, whose factors will come from its state
 */
export async function prepareRun(
  config: TrainConfig,
  seed: number,
  hooks: TrainHooks,
  savedSizes: NetworkSizes | null = null,
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
  checkResolution(config.resolution, resolutionMultiple(checkpoint));
  const vae = requireVae(checkpoint);

  const networkArgs = parseNetworkArgs(config.networkArgs, config.networkModule);
  const sizes = savedSizes ?? (await networkSizes(config, networkArgs));
  const plan = rankPlanOf(config.networkModule, sizes.rank, { ...networkArgs, convDim: sizes.convRank });
  const rates = learningRatesOf(config);
  const configs = { unet: checkpoint.unet.config, textEncoder: checkpoint.textEncoder.config };
  const targets = loraTargets(configs, { convDim: sizes.convRank !== null }).filter(({ component }) =>
    component === "unet" ? rates.unet !== null : rates.textEncoder !== null,
  );
  const network =
    config.networkWeights === null || savedSizes !== null
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
  for (const warning of data.warnings) warn(warning);

  const { device, passedOver } = await resolveDevice(config.device, signal);
  if (device === "cpu") for (const reason of passedOver) warn(`not used: ${reason}`);
  const totals = runLength(config, data);
  const mode = chooseExecutionMode(config.executionMode, device, {
    steps: totals.totalSteps,
    weights: checkpoint,
  });
  const threads = config.threads ?? undefined;
  const clipSkip = config.clipSkip ?? 1;
  const denoiser = new Denoiser({
    checkpoint,
    targets,
    device,
    mode,
    threads,
    clipSkip,
    gradientCheckpointing: config.gradientCheckpointing,
  });
  const cache = config.cacheLatentsToDisk
    ? await DiskTensorCache.open(join(defaultCacheDir(config.trainDataDir)))
    : new MemoryTensorCache();
  const conditioning = await Conditioning.open({
    checkpoint,
    device,
    threads,
    clipSkip,
    textInGraph: denoiser.includesTextEncoder,
    ...config.resolution,
    latentCache: cache,
    textCache: cache,
  });

  const { predictionType } = checkpoint;
  const schedule = createNoiseSchedule({ zeroTerminalSnr: config.zeroTerminalSnr });
  const { scalingFactor } = vae.config;
  const batches: BatchOptions = {
    sampler: samplerOf(config, data, seed),
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
  const modules = network.map((factors): TrainedModule => {
    const width = (values: Float32Array) => values.length / factors.maxRank;
    return {
      factors,
      down: createFactorState(optimizer, factors.maxRank, width(factors.down)),
      up: createFactorState(optimizer, factors.maxRank, width(factors.up)),
    };
  });
  return {
    config,
    seed,
    checkpoint,
    networkArgs,
    sizes,
    plan,
    targets,
    network,
    modules,
    optimizer,
    device,
    mode,
    denoiser,
    conditioning,
    data,
    batches,
    heldOut,
    ...totals,
  };
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

/** Steps and epochs of a run; an optimizer step takes `gradientAccumulationSteps` batches. */
function runLength(config: TrainConfig, data: RunData) {
  const sampler = samplerOf(config, data, 0);
  const accumulation = config.gradientAccumulationSteps;
  const stepsForEpochs = (epochs: number) => Math.ceil(sampler.batchesForEpochs(epochs) / accumulation);
  const totalSteps =
    config.maxTrainEpochs === null ? config.maxTrainSteps : stepsForEpochs(config.maxTrainEpochs);
  const stepsPerEpoch = stepsForEpochs(1);
  const totalEpochs =
    config.maxTrainEpochs ??
    Math.ceil((totalSteps * accumulation * config.trainBatchSize) / sampler.epochLength);
  return { totalSteps, totalEpochs, stepsPerEpoch };
}
