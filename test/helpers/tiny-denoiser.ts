/** The bundled checkpoint's denoiser on 8 x 8 latents, and what it is fed with. */
import type { Denoiser, TrainBatch } from "../../src/denoiser/denoiser.js";
import { Denoiser as RealDenoiser } from "../../src/denoiser/denoiser.js";
import { type Checkpoint, openCheckpoint } from "../../src/models/checkpoint/index.js";
import { type LoraTarget, type LoraTargetOptions, loraTargets } from "../../src/models/lora-targets.js";
import { randomStream } from "../../src/random/stream.js";
import { TINY_MODEL } from "./tiny-run.js";

export interface TinyDenoiser {
  readonly checkpoint: Checkpoint;
  readonly targets: readonly LoraTarget[];
  readonly denoiser: Denoiser;
}

/** @param wanted - which of the targets get a branch */
export async function tinyDenoiser(
  options: LoraTargetOptions & { wanted?: RegExp; clipSkip?: number } = {},
): Promise<TinyDenoiser> {
  const checkpoint = await openCheckpoint(TINY_MODEL);
  const { wanted = /./, clipSkip = 1, ...targetOptions } = options;
  const configs = { unet: checkpoint.unet.config, textEncoder: checkpoint.textEncoder.config };
  const targets = loraTargets(configs, targetOptions).filter(({ name }) => wanted.test(name));
  const denoiser = new RealDenoiser({
    checkpoint,
    targets,
    device: "cpu",
    mode: "lean",
    threads: 1,
    clipSkip,
  });
  return { checkpoint, targets, denoiser };
}

/**
 * A batch of random numbers, with hidden states for a graph without text encoder and token ids for one with it.
 *
 * @param first - number of the first sample: batches that share samples share their numbers
 */
export function randomBatch({ checkpoint, denoiser }: TinyDenoiser, count = 1, first = 0): TrainBatch {
  const { config } = checkpoint.unet;
  const [height, width, tokens] = [8, 8, 77];
  const samples = Array.from({ length: count }, (_, index) => first + index);
  const normals = (purpose: string, size: number) => {
    const parts = samples.map((sample) =>
      randomStream(3, purpose, sample).fillNormal(new Float32Array(size)),
    );
    return Float32Array.from(parts.flatMap((part) => [...part]));
  };
  const size = config.inChannels * height * width;
  return {
    count,
    height,
    width,
    sample: normals("sample", size),
    target: normals("target", size),
    timesteps: samples.map((sample) => randomStream(3, "timestep", sample).int(1000)),
    text: denoiser.includesTextEncoder
      ? { tokens: samples.map((sample) => promptIds(sample, tokens)) }
      : { context: normals("context", tokens * config.crossAttentionDim), tokensPerPrompt: tokens },
    lossWeight: new Float32Array(count).fill(1 / count),
  };
}

/** Start, three words, and ends to the full length. */
function promptIds(sample: number, length: number): number[] {
  const random = randomStream(3, "prompt", sample);
  return Array.from({ length }, (_, index) => (index === 0 ? 49406 : index < 4 ? random.int(40_000) : 49407));
}
