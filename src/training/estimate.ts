/** Memory that a run will need, from its graphs, before a session is made. */

import { bucketsOf, CLIP_TOKENS, type DatasetItem, type ImageSize, isCaptionFixed } from "../data/index.js";
import { requireVae } from "../denoiser/conditioning.js";
import { Denoiser } from "../denoiser/denoiser.js";
import type { Purpose } from "../denoiser/denoiser-graph.js";
import {
  denoiserMemory,
  latentDecoderMemory,
  latentEncoderMemory,
  latentSize,
  textEncoderMemory,
} from "../denoiser/session-memory.js";
import { freeMemoryBytes } from "../runtime/free-memory.js";
import {
  estimateRunBytes,
  type RunEstimate,
  type SessionMemory,
  sessionBytes,
} from "../runtime/memory-estimate.js";
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

/** Captions that no option changes from one time to the next; then each is encoded once. */
export function captionsAreFixed({ captionDropoutRate, shuffleCaption }: TrainConfig): boolean {
  return isCaptionFixed({ dropoutRate: captionDropoutRate, shuffle: shuffleCaption });
}

/**
 * Whether every caption is encoded before the first step, so that the text encoder can go before the training session comes.
 * A lean run is one that starts at once: it encodes captions when their turn comes, and the encoder's weights stay mapped.
 */
export function encodesCaptionsAhead({
  config,
  executionMode,
}: Pick<PreparedRun, "config" | "executionMode">): boolean {
  return executionMode === "fast" && captionsAreFixed(config);
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
  const { config, checkpoint, device, denoiser, heldOut } = run;
  const vae = vaeSessions(run);
  const text = denoiser.includesTextEncoder
    ? []
    : [textEncoderMemory(checkpoint, { device, clipSkip: config.clipSkip ?? 1 })];
  const training = [
    ...denoiserSessions(run, "train"),
    ...(heldOut === null ? [] : denoiserSessions(run, "loss")),
    ...(config.cacheLatents ? [] : vae),
    ...sampleSessions(run),
  ];
  // Images that are encoded ahead come size after size, the largest among them.
  const encoding = [...(config.cacheLatents ? vae.slice(0, 1) : vae), ...text];
  const kept = keptSessions(training, freeBytes);
  const phases = [keptSessions(encoding, freeBytes), [...kept, ...(encodesCaptionsAhead(run) ? [] : text)]];
  return {
    ...estimateRunBytes({ phases, hostBytes: hostBytes(run) }),
    sessions: { needed: training.length, kept: kept.length },
  };
}

/** The sessions that lie in memory side by side: all, or the largest as far as they fit. */
function keptSessions(sessions: readonly SessionMemory[], freeBytes: number): SessionMemory[] {
  const kept: SessionMemory[] = [];
  const preparedWeights = new Set<string>();
  let leftBytes = freeBytes;
  for (const session of [...sessions].sort((a, b) => sessionBytes(b) - sessionBytes(a))) {
    leftBytes -= sessionBytes(session, preparedWeights);
    if (kept.length > 0 && leftBytes < 0) continue;
    kept.push(session);
    for (const key of session.memory.preparedWeights.keys()) preparedWeights.add(key);
  }
  return kept;
}

/** One for each size that the run trains or measures at, the largest first. */
function denoiserSessions(run: PreparedRun, purpose: Purpose): SessionMemory[] {
  const { train, validation } = run.data;
  const sizes = sizesOf(run.config, purpose === "train" ? train.items : validation.items);
  // Graphs of all sizes look the same: that of the largest is built, the others are scaled by their area.
  const [largest] = sizes;
  const first = denoiserSession(run, purpose, largest!);
  return sizes.map(({ width, height }) => scaledSession(first, (width * height) / area(largest!)));
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
  { config, checkpoint, denoiser, network }: PreparedRun,
  purpose: Purpose,
  size: ImageSize,
): SessionMemory {
  return denoiserMemory(purpose === "train" ? "training step" : "validation", denoiser, {
    purpose,
    batchSize: config.trainBatchSize,
    latents: latentSize(checkpoint, size),
    rankOf: new Map(network.map(({ target, maxRank }) => [target.name, maxRank])),
  });
}

/** One for each size of an image, the largest first. */
function vaeSessions({ checkpoint, config, data, device, executionMode }: PreparedRun): SessionMemory[] {
  const sizes = sizesOf(config, [...data.train.items, ...data.validation.items]);
  const [largest] = sizes;
  const first = latentEncoderMemory(checkpoint, { device, mode: executionMode }, largest!);
  return sizes.map((size) => scaledSession(first, area(size) / area(largest!)));
}

function area({ width, height }: ImageSize): number {
  return width * height;
}

/** What draws the largest picture of `--sample_prompts`, beside the sessions of the training. */
function sampleSessions({ samples, checkpoint, device, denoiser, network }: PreparedRun): SessionMemory[] {
  if (samples === null) return [];
  const rankOf = new Map(network.map(({ target, maxRank }) => [target.name, maxRank]));
  const largest = samples.map(({ image }) => image).reduce((a, b) => (area(b) > area(a) ? b : a));
  const latents = latentSize(checkpoint, largest);
  const targets = denoiser.options.targets.filter(({ component }) => component === "unet");
  const unet = new Denoiser({ ...denoiser.options, targets });
  return [
    denoiserMemory("samples", unet, { purpose: "predict", batchSize: 1, latents, rankOf }),
    latentDecoderMemory(checkpoint, device, latents),
  ];
}

/**
 * The process beside its sessions: factors, their gradients, what the optimizer keeps, the copy of factors and optimizer state
 * that a run goes back to (`LastGood`), cached latents and captions.
 */
export function hostBytes(run: PreparedRun): number {
  const { network, optimizer, data, config, checkpoint } = run;
  // Gradients where the optimizer reads them, and the copies that onnxruntime-node makes of all outputs.
  const perParameter = 2 + 2 * (1 + optimizer.slotNames.length);
  const images = [...data.train.items, ...data.validation.items];
  const latentPixels = images.reduce((total, { frame = config.resolution }) => {
    const { height, width } = latentSize(checkpoint, frame);
    return total + height * width;
  }, 0);
  const moments = 2 * requireVae(checkpoint).config.latentChannels * latentPixels;
  const states = images.length * CLIP_TOKENS * checkpoint.textEncoder.config.hiddenSize;
  const cached = (config.cacheLatents ? moments : 0) + states;
  return PREPARED_PROCESS_BYTES + FLOAT_BYTES * (perParameter * parameterCount(network) + cached);
}
