/**
 * What a loss depends on, as keys: the same key means the same loss, whatever the files are called and wherever they lie.
 *
 * A loss is named by three keys: what computes it (base model, device), the adapter as it is applied, and the sample.
 */

import { cacheKey, type Frame, IMAGE_PIPELINE, type ImageSize } from "../data/index.js";
import type { BranchFactors } from "../denoiser/factors.js";
import { downWidth, upWidth } from "../denoiser/factors.js";
import { createSha256 } from "../io/index.js";
import { weightsFingerprint } from "../models/checkpoint/fingerprint.js";
import type { Checkpoint } from "../models/checkpoint/index.js";
import type { PredictionType } from "../models/config.js";
import type { DeviceName } from "../runtime/device.js";

/** Must change whenever the same inputs give other losses. */
const LOSS_RULE = "mean squared error/1";

/** 128 of 256 bits: lines of the losses' file stay short, and no two things will ever share a key. */
const KEY_LENGTH = 32;

/** The adapter that does nothing. */
export const NO_ADAPTER = "base";

export async function modelKey(run: {
  checkpoint: Checkpoint;
  predictionType: PredictionType;
  zeroTerminalSnr: boolean;
  clipSkip: number;
  device: DeviceName;
}): Promise<string> {
  const { checkpoint, predictionType, zeroTerminalSnr, clipSkip, device } = run;
  const { unet, textEncoder } = checkpoint;
  return short("model", {
    rule: LOSS_RULE,
    unet: await weightsFingerprint(unet.weights),
    unetConfig: JSON.stringify(unet.config),
    textEncoder: await weightsFingerprint(textEncoder.weights),
    textEncoderConfig: JSON.stringify(textEncoder.config),
    predictionType,
    zeroTerminalSnr,
    clipSkip,
    device,
  });
}

/** Everything about an image that decides its latent and its conditioning, with its place in the random streams. */
export interface ImageContent {
  /** Names the streams of latent, noise and timestep. */
  readonly key: string;
  readonly imageSha256: string;
  /** Token ids of the caption. */
  readonly tokens: readonly number[];
  /** Its size in pixels; with buckets also how it was scaled and cropped. */
  readonly frame: ImageSize | Frame;
  /** Fingerprint of the VAE's weights. */
  readonly vae: string;
  readonly seed: number;
}

export function imageKey(content: ImageContent): string {
  return short("image", { ...content, frame: JSON.stringify(content.frame), pipeline: IMAGE_PIPELINE });
}

export function sampleKey(image: string, { draw, timestep }: { draw: number; timestep: number }): string {
  return short("sample", { image, draw, timestep });
}

/**
 * Hashes the prefixes of one module's factors at several ranks, reading every number once.
 *
 * @param ranks - ascending
 * @returns a digest for each rank
 */
export function prefixDigests(factors: BranchFactors, ranks: readonly number[]): string[] {
  const { target } = factors;
  const hashes = [
    { hash: createSha256(), values: factors.down, width: downWidth(target) },
    { hash: createSha256(), values: factors.up, width: upWidth(target) },
  ];
  let hashed = 0;
  return ranks.map((rank) => {
    for (const { hash, values, width } of hashes) {
      const { buffer, byteOffset } = values;
      const begin = hashed * width * values.BYTES_PER_ELEMENT;
      const end = rank * width * values.BYTES_PER_ELEMENT;
      hash.update(new Uint8Array(buffer, byteOffset + begin, end - begin));
    }
    hashed = rank;
    return hashes.map(({ hash }) => hash.copy().digest("hex")).join(" ");
  });
}

/** Of the modules that do something, in any order: name, rank, strength and the numbers of the factors. */
export function adapterKey(
  modules: readonly { name: string; rank: number; scale: number; digest: string }[],
): string {
  const active = modules.filter(({ rank, scale }) => rank > 0 && scale !== 0);
  if (active.length === 0) return NO_ADAPTER;
  const lines = active.map(({ name, rank, scale, digest }) => JSON.stringify([name, rank, scale, digest]));
  return short("adapter", { modules: lines.sort().join("\n") });
}

function short(kind: string, dependencies: Parameters<typeof cacheKey>[1]): string {
  return cacheKey(`bench ${kind}`, dependencies).slice(0, KEY_LENGTH);
}
