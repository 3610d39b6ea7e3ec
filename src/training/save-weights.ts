/** Writes the LoRA file of a run. */

import { basename } from "node:path";
import { type AdapterModuleSource, buildTrainingMetadata, writeAdapter } from "../adapter/index.js";
import type { Dataset } from "../data/index.js";
import { bucketsOf, epochLength, meanAspectError } from "../data/index.js";
import type { BranchFactors } from "../denoiser/factors.js";
import { type NetworkArgs, networkArgsRecord } from "../dylora/index.js";
import { type Checkpoint, sdModelHash, sha256OfFile } from "../models/checkpoint/index.js";
import { dyloraVersion } from "../version.js";
import { bucketRulesOf, type TrainConfig } from "./config.js";
import type { NetworkSizes } from "./network.js";
import type { Optimizer } from "./optimizer/index.js";

/** What is the same in every file of a run. */
export interface WeightsContext {
  readonly config: TrainConfig;
  readonly networkArgs: NetworkArgs;
  readonly sizes: NetworkSizes;
  readonly checkpoint: Checkpoint;
  readonly optimizer: Optimizer;
  readonly data: { readonly train: Dataset; readonly validation: Dataset };
  readonly seed: number;
  readonly sessionId: number;
  readonly startedAt: Date;
  readonly totalSteps: number;
  readonly totalEpochs: number;
  readonly batchesPerEpoch: number;
}

const DTYPE = { float: "F32", fp16: "F16", bf16: "BF16" } as const;

/** Hashes of model files, each computed once: a full SHA-256 reads gigabytes. */
export class ModelHashes {
  readonly #known = new Map<string, Promise<{ shortHash: string | null; sha256: string | null }>>();

  of(path: string): Promise<{ shortHash: string | null; sha256: string | null }> {
    let hashes = this.#known.get(path);
    if (hashes === undefined) {
      hashes = Promise.all([sdModelHash(path), sha256OfFile(path)]).then(([shortHash, sha256]) => ({
        shortHash,
        sha256,
      }));
      this.#known.set(path, hashes);
    }
    return hashes;
  }
}

/**
 * @param at - optimizer steps and whole epochs done
 * @throws {DyloraError} `E_WRITE`; an existing file of the name is then as it was
 */
export async function saveWeights(
  path: string,
  network: readonly BranchFactors[],
  context: WeightsContext,
  hashes: ModelHashes,
  at: { step: number; epoch: number },
): Promise<{ sizeBytes: number }> {
  const metadata = await trainingMetadata(context, hashes, at);
  const modules = network.map(
    ({ target, maxRank, alpha, down, up }): AdapterModuleSource => ({
      name: target.name,
      kind: target.kind,
      rank: maxRank,
      alpha,
      inFeatures: target.inFeatures,
      outFeatures: target.outFeatures,
      down,
      upT: up,
    }),
  );
  const dtype = DTYPE[context.config.savePrecision];
  return writeAdapter(path, modules, { metadata, dtype, overwrite: true });
}

async function trainingMetadata(
  context: WeightsContext,
  hashes: ModelHashes,
  at: { step: number; epoch: number },
): Promise<Record<string, string>> {
  const { config, networkArgs, sizes, checkpoint, optimizer, data } = context;
  const isDylora = config.networkModule === "dylora";
  const model = await hashes.of(config.pretrainedModelNameOrPath);
  const vae = config.vae === null ? null : { name: basename(config.vae), ...(await hashes.of(config.vae)) };
  const { width, height } = config.resolution;
  return buildTrainingMetadata({
    run: {
      sessionId: context.sessionId,
      startedAt: context.startedAt,
      finishedAt: new Date(),
      outputName: config.outputName,
      comment: config.trainingComment,
      seed: context.seed,
      steps: at.step,
      epoch: at.epoch,
      maxTrainSteps: context.totalSteps,
      numEpochs: context.totalEpochs,
      numBatchesPerEpoch: context.batchesPerEpoch,
    },
    network: {
      module: isDylora ? "networks.dylora" : "networks.lora",
      dim: sizes.rank,
      alpha: sizes.alpha,
      // The rule that extraction needs: strength alpha / b at rank b, as in the paper.
      args: {
        // The sizes of the convolutions may come from a file (`--dim_from_weights`).
        ...networkArgsRecord(
          { ...networkArgs, convDim: sizes.convRank, convAlpha: sizes.convAlpha },
          config.networkModule,
        ),
        ...(isDylora && { alpha_rule: "paper" }),
      },
    },
    optimizer: {
      learningRate: config.learningRate,
      unetLr: config.unetLr,
      textEncoderLr: config.textEncoderLr,
      optimizer: `${optimizer.name}(${Object.entries(optimizer.settings)
        .map(([name, value]) => `${name}=${value}`)
        .join(",")})`,
      lrScheduler: config.lrScheduler,
      lrWarmupSteps: config.lrWarmupSteps,
      maxGradNorm: config.maxGradNorm,
      gradientAccumulationSteps: config.gradientAccumulationSteps,
      mixedPrecision: config.mixedPrecision,
      gradientCheckpointing: config.gradientCheckpointing,
    },
    base: {
      version: checkpoint.baseModelVersion,
      isV2: checkpoint.version === "sd2",
      name: basename(config.pretrainedModelNameOrPath),
      ...model,
      vae,
    },
    data: {
      numTrainImages: epochLength(data.train.items),
      numValidationImages: data.validation.items.length,
      batchSize: config.trainBatchSize,
      resolution: [width, height],
      datasetDirs: datasetDirs(data.train),
      tagFrequency: tagFrequency(data.train),
      clipSkip: config.clipSkip,
      cacheLatents: config.cacheLatents,
      keepTokens: config.keepTokens,
      shuffleCaption: config.shuffleCaption,
      captionDropoutRate: config.captionDropoutRate,
      flipAug: config.flipAug,
      buckets: bucketFacts(config, data.train),
      validationSplit: config.validationSplit,
      validationSeed: config.validationSeed,
    },
    loss: {
      minSnrGamma: config.minSnrGamma,
      noiseOffset: config.noiseOffset,
      zeroTerminalSnr: config.zeroTerminalSnr,
    },
    modelSpec: {
      baseModel: checkpoint.version,
      isVPrediction: checkpoint.predictionType === "v_prediction",
      implementationVersion: `dylora/${dyloraVersion()}`,
      title: config.metadataTitle,
      timestepRange:
        config.minTimestep === 0 && config.maxTimestep === 1000
          ? null
          : [config.minTimestep, config.maxTimestep],
      texts: modelSpecTexts(config),
    },
  });
}

function bucketFacts(config: TrainConfig, { items }: Dataset) {
  const rules = bucketRulesOf(config);
  if (rules === null) return null;
  return {
    min: rules.minSide,
    max: rules.maxSide,
    steps: rules.steps,
    noUpscale: rules.noUpscale,
    sizes: bucketsOf(items).map(({ width, height, sampleCount }) => ({
      resolution: [width, height] as const,
      count: sampleCount,
    })),
    meanAspectError: meanAspectError(items),
  };
}

function modelSpecTexts(config: TrainConfig): Record<string, string> {
  const texts = {
    author: config.metadataAuthor,
    description: config.metadataDescription,
    license: config.metadataLicense,
    tags: config.metadataTags,
  };
  return Object.fromEntries(
    Object.entries(texts).filter((entry): entry is [string, string] => entry[1] !== null),
  );
}

function datasetDirs({ items }: Dataset): Record<string, { numRepeats: number; imageCount: number }> {
  const dirs: Record<string, { numRepeats: number; imageCount: number }> = {};
  for (const { subset, repeats } of items) {
    const dir = dirs[subset] ?? { numRepeats: repeats, imageCount: 0 };
    dirs[subset] = { ...dir, imageCount: dir.imageCount + 1 };
  }
  return dirs;
}

/** How often each comma-separated part of the captions occurs, by folder, as sd-scripts counts them. */
function tagFrequency({ items }: Dataset): Record<string, Record<string, number>> {
  const frequency: Record<string, Record<string, number>> = {};
  for (const { subset, caption } of items) {
    frequency[subset] ??= {};
    const tags = frequency[subset];
    for (const tag of caption.split(",").map((part) => part.trim().toLowerCase())) {
      if (tag !== "") tags[tag] = (tags[tag] ?? 0) + 1;
    }
  }
  return frequency;
}
