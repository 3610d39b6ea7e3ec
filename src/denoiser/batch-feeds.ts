/** A batch as the inputs of a denoiser's graph. */

import type { UnetConfig } from "../models/config.js";
import { timestepEmbedding } from "../models/unet.js";
import { float32, type HostTensor, int64 } from "../runtime/session.js";
import type { DenoiserBatch, LossBatch, TrainBatch } from "./denoiser.js";

type Feeds = Record<string, HostTensor>;

export function batchFeeds(config: UnetConfig, batch: DenoiserBatch): Feeds {
  const { count, text } = batch;
  const tokens = tokensPerPrompt(batch);
  return {
    sample: float32(batch.sample, sampleShape(config, batch)),
    timestep_embedding: float32(timestepEmbedding(batch.timesteps, config), [
      count,
      config.blockOutChannels[0]!,
    ]),
    ...("tokens" in text
      ? { tokens: int64(text.tokens.flat(), [count, tokens]) }
      : { context: float32(text.context, [count * tokens, config.crossAttentionDim]) }),
  };
}

/** What a loss needs besides. */
export function lossFeeds(config: UnetConfig, batch: LossBatch): Feeds {
  return { target: float32(batch.target, sampleShape(config, batch)) };
}

/** What gradients need besides. */
export function trainFeeds(config: UnetConfig, batch: TrainBatch): Feeds {
  return { ...lossFeeds(config, batch), loss_weight: float32(batch.lossWeight, [batch.count]) };
}

export function tokensPerPrompt({ text }: Pick<DenoiserBatch, "text">): number {
  return "tokens" in text ? text.tokens[0]!.length : text.tokensPerPrompt;
}

function sampleShape({ inChannels }: UnetConfig, { count, height, width }: DenoiserBatch): number[] {
  return [count, inChannels, height, width];
}
