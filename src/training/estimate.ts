/** Memory that a run will need, from its graphs, before a session is made. */

import { CLIP_TOKENS, isCaptionFixed } from "../data/index.js";
import { requireVae } from "../denoiser/conditioning.js";
import { buildDenoiserGraph, type Purpose } from "../denoiser/denoiser-graph.js";
import { branchNames } from "../denoiser/factors.js";
import { buildLatentEncoderGraph } from "../denoiser/latent-encoder.js";
import { buildTextGraph } from "../denoiser/text-conditioner.js";
import type { Graph } from "../graph/graph.js";
import { estimateActivationBytes } from "../graph/memory.js";
import type { Tensor } from "../graph/tensor.js";
import { vaeDownsampleFactor } from "../models/config.js";
import { estimateRunBytes, type RunEstimate, type SessionMemory } from "../runtime/memory-estimate.js";
import { type ExecutionMode, usableMode } from "../runtime/session.js";
import type { TrainConfig } from "./config.js";
import { parameterCount } from "./network.js";
import type { PreparedRun } from "./prepare.js";

const FLOAT_BYTES = 4;

/**
 * What a training process holds beside its sessions once images are encoded and before the training session is made: the
 * image decoder, the tokenizer's vocabulary, the JavaScript heap. Measured in the demo: 268 MB resident, of which
 * 114 MB are counted as the process.
 */
const PREPARED_PROCESS_BYTES = 154e6;

/** Captions that no option changes from one time to the next; then each is encoded once, before the first step. */
export function captionsAreFixed({ captionDropoutRate, shuffleCaption }: TrainConfig): boolean {
  return isCaptionFixed({ dropoutRate: captionDropoutRate, shuffle: shuffleCaption });
}

/** Peak memory of a run at its maximum rank, by part. */
export function estimateRun(run: PreparedRun): RunEstimate {
  const { config, denoiser, heldOut } = run;
  const vae = vaeSession(run);
  const text = denoiser.includesTextEncoder ? [] : [textSession(run)];
  const training = [
    denoiserSession(run, "train"),
    ...(heldOut === null ? [] : [denoiserSession(run, "loss")]),
    ...(config.cacheLatents ? [] : [vae]),
    ...(captionsAreFixed(config) ? [] : text),
  ];
  return estimateRunBytes({ phases: [[vae, ...text], training], hostBytes: hostBytes(run) });
}

function denoiserSession(run: PreparedRun, purpose: Purpose): SessionMemory {
  const { checkpoint, targets, mode, computeType, config, denoiser, network } = run;
  const { graph, outputs } = buildDenoiserGraph({
    checkpoint,
    targets,
    purpose,
    batch: config.trainBatchSize,
    ...latentSize(run),
    tokens: CLIP_TOKENS,
    includeTextEncoder: denoiser.includesTextEncoder,
    clipSkip: config.clipSkip ?? 1,
    gradientCheckpointing: config.gradientCheckpointing,
    foldsConstants: mode === "fast",
    computeType,
  });
  const symbols = Object.fromEntries(
    network.map(({ target, maxRank }) => [branchNames(target).rank, maxRank]),
  );
  return session(purpose === "train" ? "training step" : "validation", graph, outputs, mode, symbols);
}

function vaeSession({ checkpoint, config }: PreparedRun): SessionMemory {
  const { width, height } = config.resolution;
  const { graph, outputs } = buildLatentEncoderGraph(requireVae(checkpoint), height, width);
  return session("VAE encoder", graph, outputs, "fast", {});
}

function textSession({ checkpoint, config, device }: PreparedRun): SessionMemory {
  const mode = usableMode(device, "lean");
  const { graph, outputs } = buildTextGraph(checkpoint.textEncoder, CLIP_TOKENS, {
    clipSkip: config.clipSkip ?? 1,
    foldsConstants: mode === "fast",
  });
  return session("text encoder", graph, outputs, mode, {});
}

function session(
  name: string,
  graph: Graph,
  outputs: Readonly<Record<string, Tensor>>,
  mode: ExecutionMode,
  symbols: Readonly<Record<string, number>>,
): SessionMemory {
  const memory = estimateActivationBytes(graph, outputs, {
    symbols,
    foldsConstants: mode === "fast",
    weightConversionPerUse: mode === "lean",
  });
  return { name, mode, memory };
}

function latentSize({ checkpoint, config }: PreparedRun): { height: number; width: number } {
  const factor = vaeDownsampleFactor(requireVae(checkpoint).config);
  return { height: config.resolution.height / factor, width: config.resolution.width / factor };
}

/** The process beside its sessions: factors, their gradients, what the optimizer keeps, cached latents and captions. */
function hostBytes(run: PreparedRun): number {
  const { network, optimizer, data, config, checkpoint } = run;
  const perParameter = 2 + optimizer.slotNames.length;
  const images = data.train.items.length + data.validation.items.length;
  const { height, width } = latentSize(run);
  const moments = 2 * requireVae(checkpoint).config.latentChannels * height * width;
  const states = CLIP_TOKENS * checkpoint.textEncoder.config.hiddenSize;
  const cached = images * ((config.cacheLatents ? moments : 0) + states);
  return PREPARED_PROCESS_BYTES + FLOAT_BYTES * (perParameter * parameterCount(network) + cached);
}
