/** Memory that a run will need, from its graphs, before a session is made. */

import { bucketsOf, CLIP_TOKENS, type DatasetItem, type ImageSize, isCaptionFixed } from "../data/index.js";
import { requireVae } from "../denoiser/conditioning.js";
import { buildDenoiserGraph, type Purpose } from "../denoiser/denoiser-graph.js";
import { branchNames } from "../denoiser/factors.js";
import { buildLatentEncoderGraph } from "../denoiser/latent-encoder.js";
import { buildTextGraph } from "../denoiser/text-conditioner.js";
import type { Graph } from "../graph/graph.js";
import { estimateActivationBytes } from "../graph/memory.js";
import type { Tensor } from "../graph/tensor.js";
import { vaeDownsampleFactor } from "../models/config.js";
import { modeOf } from "../runtime/execution-mode.js";
import { freeMemoryBytes } from "../runtime/free-memory.js";
import {
  estimateRunBytes,
  type RunEstimate,
  type SessionMemory,
  sessionBytes,
} from "../runtime/memory-estimate.js";
import { type ExecutionMode, usableMode } from "../runtime/session.js";
import { reservedBytes } from "../runtime/session-pool.js";
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

/** The memory of a run, and how many sessions it allows for. */
export interface TrainingEstimate extends RunEstimate {
  /** Sessions that the steps and validations of the run need, and how many of them fit into memory side by side. */
  readonly sessions: { readonly needed: number; readonly kept: number };
}

/**
 * Peak memory of a run at its maximum rank, by part.
 *
 * @param freeBytes - what the sessions of several sizes may take; default: the memory that is free, less what is kept free
 */
export function estimateRun(
  run: PreparedRun,
  freeBytes = freeMemoryBytes() - reservedBytes(),
): TrainingEstimate {
  const { config, denoiser, heldOut } = run;
  const vae = vaeSessions(run);
  const text = denoiser.includesTextEncoder ? [] : [textSession(run)];
  const training = [
    ...denoiserSessions(run, "train"),
    ...(heldOut === null ? [] : denoiserSessions(run, "loss")),
    ...(config.cacheLatents ? [] : vae),
    ...(captionsAreFixed(config) ? [] : text),
  ];
  // Images that are encoded ahead come size after size, the largest among them.
  const encoding = [...(config.cacheLatents ? vae.slice(0, 1) : vae), ...text];
  const kept = keptSessions(training, freeBytes);
  const phases = [keptSessions(encoding, freeBytes), kept];
  return {
    ...estimateRunBytes({ phases, hostBytes: hostBytes(run) }),
    sessions: { needed: training.length, kept: kept.length },
  };
}

/** The sessions that lie in memory side by side: all, or the largest as far as they fit. */
function keptSessions(sessions: readonly SessionMemory[], freeBytes: number): SessionMemory[] {
  const kept: SessionMemory[] = [];
  let leftBytes = freeBytes;
  for (const session of [...sessions].sort((a, b) => sessionBytes(b) - sessionBytes(a))) {
    leftBytes -= sessionBytes(session);
    if (kept.length === 0 || leftBytes >= 0) kept.push(session);
  }
  return kept;
}

/** One for each size that the run trains or measures at, the largest first. */
function denoiserSessions(run: PreparedRun, purpose: Purpose): SessionMemory[] {
  const { train, validation } = run.data;
  const sizes = sizesOf(run.config, purpose === "train" ? train.items : validation.items);
  // Graphs of all sizes look the same: that of the largest is built in each mode, the others are scaled by their area.
  const built = new Map<ExecutionMode, { session: SessionMemory; area: number }>();
  return sizes.map((size) => {
    const mode = modeOf(run.modes, size);
    const area = size.width * size.height;
    const known = built.get(mode);
    if (known !== undefined) return scaledSession(known.session, area / known.area);
    const session = denoiserSession(run, purpose, size, mode);
    built.set(mode, { session, area });
    return session;
  });
}

/** The distinct sizes of images in pixels, the largest area first. */
function sizesOf({ enableBucket, resolution }: TrainConfig, items: readonly DatasetItem[]): ImageSize[] {
  if (!enableBucket) return [resolution];
  return bucketsOf(items).sort((a, b) => b.width * b.height - a.width * a.height);
}

/** Attention grows faster than the area: for smaller sizes this is too much, never too little. */
function scaledSession(session: SessionMemory, factor: number): SessionMemory {
  const { memory } = session;
  return { ...session, memory: { ...memory, peakBytes: factor * memory.peakBytes } };
}

function denoiserSession(
  run: PreparedRun,
  purpose: Purpose,
  size: ImageSize,
  mode: ExecutionMode,
): SessionMemory {
  const { checkpoint, targets, config, denoiser, network } = run;
  const { graph, outputs } = buildDenoiserGraph({
    checkpoint,
    targets,
    purpose,
    batch: config.trainBatchSize,
    ...latentSize(run, size),
    tokens: CLIP_TOKENS,
    includeTextEncoder: denoiser.includesTextEncoder,
    clipSkip: config.clipSkip ?? 1,
    gradientCheckpointing: config.gradientCheckpointing,
    foldsConstants: mode === "fast",
  });
  const symbols = Object.fromEntries(
    network.map(({ target, maxRank }) => [branchNames(target).rank, maxRank]),
  );
  const name = purpose === "train" ? "training step" : "validation";
  return { ...session(name, graph, outputs, mode, symbols), weights: "denoiser" };
}

/** One for each size of an image, the largest first. */
function vaeSessions({ checkpoint, config, data }: PreparedRun): SessionMemory[] {
  const sizes = sizesOf(config, [...data.train.items, ...data.validation.items]);
  const [largest] = sizes;
  const { width, height } = largest!;
  const { graph, outputs } = buildLatentEncoderGraph(requireVae(checkpoint), height, width);
  const first = { ...session("VAE encoder", graph, outputs, "fast", {}), weights: "VAE" };
  return sizes.map((size) => scaledSession(first, (size.width * size.height) / (width * height)));
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
  return { name, memory };
}

function latentSize({ checkpoint }: PreparedRun, { width, height }: ImageSize): ImageSize {
  const factor = vaeDownsampleFactor(requireVae(checkpoint).config);
  return { height: height / factor, width: width / factor };
}

/**
 * The process beside its sessions: factors, their gradients, what the optimizer keeps, the copy of factors and optimizer state
 * that a run goes back to (`LastGood`), cached latents and captions.
 */
export function hostBytes(run: PreparedRun): number {
  const { network, optimizer, data, config, checkpoint } = run;
  const perParameter = 1 + 2 * (1 + optimizer.slotNames.length);
  const images = [...data.train.items, ...data.validation.items];
  const latentPixels = images.reduce((total, { frame = config.resolution }) => {
    const { height, width } = latentSize(run, frame);
    return total + height * width;
  }, 0);
  const moments = 2 * requireVae(checkpoint).config.latentChannels * latentPixels;
  const states = images.length * CLIP_TOKENS * checkpoint.textEncoder.config.hiddenSize;
  const cached = (config.cacheLatents ? moments : 0) + states;
  return PREPARED_PROCESS_BYTES + FLOAT_BYTES * (perParameter * parameterCount(network) + cached);
}
