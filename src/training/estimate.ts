/** Memory that a run will need, from its graphs, before a session is made. */

import { CLIP_TOKENS, isCaptionFixed } from "../data/index.js";
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
import { estimateRunBytes, type RunEstimate, type SessionMemory } from "../runtime/memory-estimate.js";
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
  const { config, checkpoint, device, denoiser, heldOut, network } = run;
  const latents = latentSize(checkpoint, config.resolution);
  const rankOf = new Map(network.map(({ target, maxRank }) => [target.name, maxRank]));
  const session = (name: string, purpose: Purpose) =>
    denoiserMemory(name, denoiser, { purpose, batchSize: config.trainBatchSize, latents, rankOf });
  const vae = latentEncoderMemory(checkpoint, config.resolution);
  const text = denoiser.includesTextEncoder
    ? []
    : [textEncoderMemory(checkpoint, { device, clipSkip: config.clipSkip ?? 1 })];
  const training = [
    session("training step", "train"),
    ...(heldOut === null ? [] : [session("validation", "loss")]),
    ...(config.cacheLatents ? [] : [vae]),
    ...(captionsAreFixed(config) ? [] : text),
    ...sampleSessions(run, rankOf),
  ];
  return estimateRunBytes({ phases: [[vae, ...text], training], hostBytes: hostBytes(run) });
}

/** What draws the largest picture of `--sample_prompts`, beside the sessions of the training. */
function sampleSessions(
  { samples, checkpoint, denoiser }: PreparedRun,
  rankOf: ReadonlyMap<string, number>,
): SessionMemory[] {
  if (samples === null) return [];
  const area = ({ width, height }: { width: number; height: number }) => width * height;
  const largest = samples.map(({ image }) => image).reduce((a, b) => (area(b) > area(a) ? b : a));
  const latents = latentSize(checkpoint, largest);
  const targets = denoiser.options.targets.filter(({ component }) => component === "unet");
  const unet = new Denoiser({ ...denoiser.options, targets });
  return [
    denoiserMemory("samples", unet, { purpose: "predict", batchSize: 1, latents, rankOf }),
    latentDecoderMemory(checkpoint, latents),
  ];
}

/** The process beside its sessions: factors, their gradients, what the optimizer keeps, cached latents and captions. */
function hostBytes(run: PreparedRun): number {
  const { network, optimizer, data, config, checkpoint } = run;
  const perParameter = 2 + optimizer.slotNames.length;
  const images = data.train.items.length + data.validation.items.length;
  const { height, width } = latentSize(checkpoint, config.resolution);
  const moments = 2 * requireVae(checkpoint).config.latentChannels * height * width;
  const states = CLIP_TOKENS * checkpoint.textEncoder.config.hiddenSize;
  const cached = images * ((config.cacheLatents ? moments : 0) + states);
  return PREPARED_PROCESS_BYTES + FLOAT_BYTES * (perParameter * parameterCount(network) + cached);
}
