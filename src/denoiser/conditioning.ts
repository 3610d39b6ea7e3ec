/** Captions and images as the denoiser takes them, through caches. */

import {
  type ClipTokenizer,
  type DatasetItem,
  LatentCache,
  loadClipTokenizer,
  type TensorCache,
  TextCache,
} from "../data/index.js";
import { DyloraError } from "../errors.js";
import { weightsFingerprint } from "../models/checkpoint/fingerprint.js";
import type { Checkpoint } from "../models/checkpoint/index.js";
import { vaeDownsampleFactor } from "../models/config.js";
import type { DeviceName } from "../runtime/device.js";
import type { ExecutionMode } from "../runtime/session.js";
import type { DenoiserBatch } from "./denoiser.js";
import { LatentEncoder, type LatentMoments } from "./latent-encoder.js";
import { TextConditioner } from "./text-conditioner.js";

export interface ConditioningOptions {
  checkpoint: Checkpoint;
  device: DeviceName;
  /** Of the denoiser. Default fast. */
  mode?: ExecutionMode;
  threads?: number | undefined;
  clipSkip: number;
  /** The text encoder is part of the denoiser's graph: captions become token ids, not hidden states. */
  textInGraph: boolean;
  /** Size of images that have no frame. */
  width: number;
  height: number;
  /** All images are encoded before they are needed, by {@link LatentCache.fill}; default false. */
  encodesAhead?: boolean;
  latentCache: TensorCache;
  textCache: TensorCache;
}

/**
 * Pixels of the image that one side must be a multiple of: the VAE's factor times the halvings of the U-Net.
 */
export function resolutionMultiple(checkpoint: Checkpoint): number {
  return (
    vaeDownsampleFactor(requireVae(checkpoint).config) *
    2 ** (checkpoint.unet.config.blockOutChannels.length - 1)
  );
}

/** @throws {DyloraError} `E_INCOMPATIBLE` for a checkpoint without a VAE */
export function requireVae(checkpoint: Checkpoint): NonNullable<Checkpoint["vae"]> {
  if (checkpoint.vae !== null) return checkpoint.vae;
  throw new DyloraError(
    "E_INCOMPATIBLE",
    `open ${checkpoint.path}: the checkpoint has no VAE to encode images with`,
    {
      note: "Give one with --vae: a .safetensors file or a diffusers folder.",
    },
  );
}

/** Frozen models in front of the denoiser. The sessions are made when something is not in the caches. */
export class Conditioning {
  readonly latents: LatentCache;
  readonly #options: ConditioningOptions;
  readonly #tokenizer: ClipTokenizer;
  readonly #encoder: LatentEncoder;
  readonly #conditioner: TextConditioner;
  readonly #texts: TextCache;
  #truncatedCaptions = new Set<string>();

  private constructor(
    options: ConditioningOptions,
    tokenizer: ClipTokenizer,
    identities: { vae: string; text: string },
  ) {
    const { checkpoint, device, mode = "fast", threads, clipSkip, width, height } = options;
    this.#options = options;
    this.#tokenizer = tokenizer;
    this.#encoder = new LatentEncoder({
      vae: requireVae(checkpoint),
      device,
      mode,
      threads,
      oneSizeAtATime: options.encodesAhead ?? false,
    });
    this.#conditioner = new TextConditioner({ checkpoint, device, threads, clipSkip });
    this.latents = new LatentCache({
      width,
      height,
      cache: options.latentCache,
      vaeIdentity: identities.vae,
      encode: (image, h, w) => this.#encoder.encode(image, h, w),
    });
    this.#texts = new TextCache({
      cache: options.textCache,
      encoderIdentity: identities.text,
      clipSkip,
      encode: (ids) => this.#conditioner.encode(ids),
    });
  }

  static async open(options: ConditioningOptions): Promise<Conditioning> {
    const { checkpoint } = options;
    const tokenizer = await loadClipTokenizer({
      tokenizerDir: checkpoint.tokenizerDir,
      version: checkpoint.version,
    });
    const [vae, text] = await Promise.all([
      weightsFingerprint(requireVae(checkpoint).weights),
      weightsFingerprint(checkpoint.textEncoder.weights),
    ]);
    return new Conditioning(options, tokenizer, { vae, text });
  }

  /** Captions that lost words because they were longer than the 75 tokens of a prompt. */
  get truncatedCaptions(): ReadonlySet<string> {
    return this.#truncatedCaptions;
  }

  moments(item: DatasetItem, flip: boolean): Promise<LatentMoments> {
    return this.latents.read(item, flip);
  }

  /** The captions of one batch. */
  async text(captions: readonly string[]): Promise<DenoiserBatch["text"]> {
    const prompts = captions.map((caption) => {
      const { ids, truncatedTokens } = this.#tokenizer.encode(caption);
      if (truncatedTokens > 0) this.#truncatedCaptions.add(caption);
      return ids;
    });
    if (this.#options.textInGraph) return { tokens: prompts };
    const states: Float32Array[] = [];
    for (const ids of prompts) states.push(await this.#texts.read(ids));
    const context = new Float32Array(states.reduce((total, { length }) => total + length, 0));
    let offset = 0;
    for (const part of states) {
      context.set(part, offset);
      offset += part.length;
    }
    return { context, tokensPerPrompt: prompts[0]!.length };
  }

  /** Encodes captions that will be needed, so that the text encoder can be released. */
  async fillTexts(captions: Iterable<string>, signal: AbortSignal): Promise<void> {
    if (this.#options.textInGraph) return;
    for (const caption of new Set(captions)) {
      signal.throwIfAborted();
      await this.text([caption]);
    }
  }

  /** Ends the VAE's session: nothing more will be encoded, or rarely enough to make it again. */
  async releaseEncoder(): Promise<void> {
    await this.#encoder.release();
  }

  /** Ends the text encoder's session, likewise. */
  async releaseTextEncoder(): Promise<void> {
    await this.#conditioner.release();
  }

  /** Ends both. */
  async release(): Promise<void> {
    await this.#encoder.release();
    await this.#conditioner.release();
  }
}
