/** The smallest denoiser with every operator of training in it: seconds even on a GPU driver in software. */

import { Denoiser, type DenoiserOptions, type TrainBatch } from "../../src/denoiser/denoiser.js";
import { type ActiveModule, branchNames, downWidth, upWidth } from "../../src/denoiser/factors.js";
import { type Checkpoint, openCheckpoint } from "../../src/models/checkpoint/index.js";
import { type LoraTarget, loraTargets } from "../../src/models/lora-targets.js";
import { randomStream } from "../../src/random/stream.js";
import type { WritableDtype } from "../../src/safetensors/index.js";
import { writeRandomDiffusers } from "./random-checkpoint.js";
import { SD1_TINY } from "./tiny-checkpoints.js";

/** Two levels, attention in one of them and in the middle; a stride, an upsampling, a shortcut; a causal text encoder. */
const CONFIGS = {
  ...SD1_TINY,
  unet: {
    ...SD1_TINY.unet,
    blockOutChannels: [8, 16],
    headsPerLevel: [2, 2],
    crossAttentionDim: 8,
    timeEmbedDim: 16,
    normNumGroups: 4,
  },
  textEncoder: {
    ...SD1_TINY.textEncoder,
    hiddenSize: 8,
    intermediateSize: 16,
    heads: 2,
    layers: 1,
    vocabSize: 30,
    maxPositions: 6,
  },
};

const SIDE = 8;
const TOKENS = 6;
export const MINIMAL_RANK = 3;

export interface MinimalModel {
  readonly checkpoint: Checkpoint;
  /** Every module that can have a LoRA: both components, 3x3 convolutions included. */
  readonly targets: readonly LoraTarget[];
  readonly batch: TrainBatch;
}

/** Random weights, factors and batch. */
export async function minimalModel(folder: string, dtype: WritableDtype): Promise<MinimalModel> {
  const checkpoint = await openCheckpoint(await writeRandomDiffusers(folder, CONFIGS, dtype));
  const { unet, textEncoder } = checkpoint;
  const targets = loraTargets({ unet: unet.config, textEncoder: textEncoder.config }, { convDim: true });
  const normals = (purpose: string, count: number) =>
    randomStream(5, purpose).fillNormal(new Float32Array(count));
  const size = 2 * unet.config.inChannels * SIDE * SIDE;
  const ids = randomStream(5, "tokens");
  const prompt = () => Array.from({ length: TOKENS }, () => ids.int(textEncoder.config.vocabSize));
  return {
    checkpoint,
    targets,
    batch: {
      count: 2,
      height: SIDE,
      width: SIDE,
      sample: normals("sample", size),
      target: normals("target", size),
      timesteps: [10, 700],
      text: { tokens: [prompt(), prompt()] },
      lossWeight: Float32Array.of(0.5, 0.75),
    },
  };
}

export function minimalDenoiser(
  { checkpoint, targets }: MinimalModel,
  options: Pick<DenoiserOptions, "device"> & Partial<DenoiserOptions>,
): Denoiser {
  return new Denoiser({ checkpoint, targets, mode: "fast", threads: 1, ...options });
}

/** Every module at a rank; no factor is zero, so that every gradient has something to say. */
export function minimalModules({ targets }: MinimalModel, rank: number): ActiveModule[] {
  return targets.map((target) => {
    const values = (purpose: string, width: number) =>
      randomStream(5, purpose, target.name)
        .fillNormal(new Float32Array(MINIMAL_RANK * width))
        .map((value) => value / Math.sqrt(width));
    const { down, up } = branchNames(target);
    return {
      factors: {
        target,
        maxRank: MINIMAL_RANK,
        alpha: 1,
        down: values(down, downWidth(target)),
        up: values(up, upWidth(target)),
      },
      rank,
      scale: 1 / rank,
    };
  });
}

/** The batch whose gradients are `scale` times as large. */
export function scaledBatch({ batch }: MinimalModel, scale: number): TrainBatch {
  return { ...batch, lossWeight: batch.lossWeight.map((weight) => weight * scale) };
}
