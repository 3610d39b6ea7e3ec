/** Draws pictures, one after the other, with sessions that serve all of them. */

import { CLIP_TOKENS, checkResolution } from "../data/index.js";
import { requireVae, resolutionMultiple } from "../denoiser/conditioning.js";
import { Denoiser } from "../denoiser/denoiser.js";
import type { ActiveModule } from "../denoiser/factors.js";
import { LatentDecoder } from "../denoiser/latent-decoder.js";
import { DyloraError } from "../errors.js";
import type { Checkpoint } from "../models/checkpoint/types.js";
import { createNoiseSchedule, type NoiseSchedule } from "../models/noise-schedule.js";
import { randomStream } from "../random/stream.js";
import { chooseExecutionMode } from "../runtime/execution-mode.js";
import { adapterTargets, combineAdapters } from "./loaded-adapter.js";
import { checkSteps, noiseLevels } from "./noise-levels.js";
import { PromptEncoder } from "./prompt-encoder.js";
import { cleanLatents, createStepper, guidedPrediction, modelInput, startLatents } from "./samplers.js";
import {
  type GeneratedImage,
  type GenerateHooks,
  type GenerateRequest,
  IMAGE_DEFAULTS,
  type ImageRequest,
} from "./types.js";

/** An image with nothing left out. */
type CompleteImage = Required<ImageRequest>;

/**
 * Draws every picture of the request, in its order, and gives each as soon as it is done.
 *
 * All numbers that are drawn come from streams named by a picture's seed (and, where a sampler draws at every step, the
 * step), so that a picture is the same whatever is drawn before it or beside it.
 *
 * @throws {DyloraError} before the first picture: `E_USAGE` for sizes and steps that cannot be, `E_RANK`, `E_INCOMPATIBLE`
 * without a VAE; later `E_DIVERGED` for a picture that is not finite, `E_MEMORY`, `E_DEVICE`. Aborting rejects with the
 * signal's reason.
 */
export async function* generateImages(
  request: GenerateRequest,
  hooks: GenerateHooks,
): AsyncGenerator<GeneratedImage, void, undefined> {
  const images = request.images.map((image) => completeImage(image, request.checkpoint));
  if (images.length === 0) return;
  const artist = await Artist.open(request, images, hooks);
  try {
    // All prompts first: the text encoder's session can go before the U-Net's is made.
    await artist.encodePrompts();
    for (const index of images.keys()) yield await artist.draw(index);
  } finally {
    await artist.release();
  }
}

/**
 * Fills in the defaults of a picture, and checks it.
 *
 * @throws {DyloraError} `E_USAGE` for sizes and steps that cannot be, `E_RANK`, `E_INCOMPATIBLE` without a VAE
 */
export function completeImage(image: ImageRequest, checkpoint: Checkpoint): CompleteImage {
  const complete: CompleteImage = { ...IMAGE_DEFAULTS, ...image };
  checkResolution(complete, resolutionMultiple(checkpoint));
  checkSteps(complete.steps);
  for (const { adapter, rank } of complete.adapters) adapter.checkRank(rank);
  return complete;
}

class Artist {
  readonly #request: GenerateRequest;
  readonly #images: readonly CompleteImage[];
  readonly #hooks: GenerateHooks;
  readonly #denoiser: Denoiser;
  readonly #encoder: PromptEncoder;
  readonly #decoder: LatentDecoder;
  readonly #schedule: NoiseSchedule;

  private constructor(
    request: GenerateRequest,
    images: readonly CompleteImage[],
    hooks: GenerateHooks,
    parts: { denoiser: Denoiser; encoder: PromptEncoder },
  ) {
    const { checkpoint, device, threads, zeroTerminalSnr = false } = request;
    this.#request = request;
    this.#images = images;
    this.#hooks = hooks;
    this.#denoiser = parts.denoiser;
    this.#encoder = parts.encoder;
    this.#decoder = new LatentDecoder({ vae: requireVae(checkpoint), device, threads });
    this.#schedule = createNoiseSchedule({ zeroTerminalSnr });
  }

  static async open(
    request: GenerateRequest,
    images: readonly CompleteImage[],
    hooks: GenerateHooks,
  ): Promise<Artist> {
    const { checkpoint, device, executionMode = "auto", threads, clipSkip = 1 } = request;
    const changed = new Set(
      images.flatMap(({ adapters }) =>
        adapters.flatMap(({ adapter }) => adapter.targets.map(({ name }) => name)),
      ),
    );
    const targets = adapterTargets(checkpoint).filter(({ name }) => changed.has(name));
    const of = (component: string) => targets.filter((target) => target.component === component);
    const steps = images.reduce((total, image) => total + evaluations(image), 0);
    const mode = chooseExecutionMode(executionMode, device, { steps, weights: checkpoint });
    const common = { checkpoint, device, threads, clipSkip };
    const prepared = request.prepared === undefined ? {} : { prepared: request.prepared };
    const denoiser = new Denoiser({ ...common, ...prepared, targets: of("unet"), mode });
    const encoder = await PromptEncoder.open({
      ...common,
      targets: of("text_encoder"),
      onWarning: hooks.onWarning ?? (() => {}),
    });
    return new Artist(request, images, hooks, { denoiser, encoder });
  }

  async encodePrompts(): Promise<void> {
    for (const image of this.#images) {
      for (const prompt of promptsOf(image)) {
        this.#hooks.signal.throwIfAborted();
        await this.#encoder.encode(prompt, image.adapters);
      }
    }
    await this.#encoder.release();
  }

  async draw(index: number): Promise<GeneratedImage> {
    const startedAt = performance.now();
    const image = this.#images[index]!;
    const { config } = requireVae(this.#request.checkpoint);
    const [height, width] = [image.height / this.#decoder.factor, image.width / this.#decoder.factor];
    const latents = await this.#denoise(image, index, { height, width });
    const clean = Float32Array.from(latents, (value) => value / config.scalingFactor);
    const pixels = rgbBytes(await this.#decoder.decode(clean, height, width), image);
    return {
      index,
      request: image,
      clipSkip: this.#request.clipSkip ?? 1,
      width: image.width,
      height: image.height,
      pixels,
      seconds: (performance.now() - startedAt) / 1000,
    };
  }

  async release(): Promise<void> {
    await this.#encoder.release();
    await this.#denoiser.release();
    await this.#decoder.release();
  }

  /** @returns latents as the U-Net has them, `[C, height, width]` */
  async #denoise(
    image: CompleteImage,
    index: number,
    size: { height: number; width: number },
  ): Promise<Float64Array> {
    const { signal, onProgress } = this.#hooks;
    const { checkpoint, predictionType = checkpoint.predictionType } = this.#request;
    const { steps, seed } = image;
    const count = checkpoint.unet.config.inChannels * size.height * size.width;
    const normals = (...key: [string, ...number[]]) =>
      randomStream(seed, ...key).fillNormal(new Float32Array(count));
    const predict = await this.#predictor(image, size);
    const { sigmas, timesteps } = noiseLevels(this.#schedule, image.sampler, image.spacing, steps);
    const step = createStepper(image.sampler);
    let x = startLatents(normals("picture noise"), sigmas[0]!);
    for (let i = 0; i < steps; i++) {
      signal.throwIfAborted();
      onProgress?.({ image: index, images: this.#images.length, step: i, steps });
      const sigma = sigmas[i]!;
      const prediction = await predict(modelInput(x, sigma), timesteps[i]!);
      const x0 = cleanLatents(predictionType, x, prediction, sigma);
      x = step({ x, x0, sigma, nextSigma: sigmas[i + 1]!, noise: () => normals("ancestral noise", i) });
    }
    signal.throwIfAborted();
    onProgress?.({ image: index, images: this.#images.length, step: steps, steps });
    return x;
  }

  /**
   * The model with a picture's prompts and adapters. Prompt and negative prompt are evaluated one after the other: a batch of
   * two would need twice the memory for its activations, and a second session for pictures without guidance.
   */
  async #predictor(image: CompleteImage, size: { height: number; width: number }) {
    const modules = combineAdapters(this.#denoiser.options.targets, image.adapters);
    const contexts: Float32Array[] = [];
    for (const prompt of promptsOf(image)) {
      contexts.push(await this.#encoder.encode(prompt, image.adapters));
    }
    return async (sample: Float32Array, timestep: number): Promise<Float64Array> => {
      const predictions: Float32Array[] = [];
      for (const context of contexts) {
        predictions.push(await this.#predict(sample, timestep, context, size, modules));
      }
      const [positive, negative] = predictions;
      return negative === undefined
        ? Float64Array.from(positive!)
        : guidedPrediction(positive!, negative, image.scale);
    };
  }

  async #predict(
    sample: Float32Array,
    timestep: number,
    context: Float32Array,
    size: { height: number; width: number },
    modules: readonly ActiveModule[],
  ): Promise<Float32Array> {
    const text = { context, tokensPerPrompt: CLIP_TOKENS };
    const batch = { count: 1, ...size, sample, timesteps: [timestep], text };
    return (await this.#denoiser.predict(batch, modules)).prediction;
  }
}

/** The prompt, and the negative prompt where guidance needs it. */
function promptsOf({ prompt, negativePrompt, scale }: CompleteImage): string[] {
  return scale === 1 ? [prompt] : [prompt, negativePrompt];
}

function evaluations(image: CompleteImage): number {
  return image.steps * promptsOf(image).length;
}

/** From `[3, height, width]` in [-1, 1] to interleaved bytes. */
function rgbBytes(image: Float32Array, { width, height, prompt, seed }: CompleteImage): Uint8Array {
  const count = width * height;
  const bytes = new Uint8Array(3 * count);
  for (let channel = 0; channel < 3; channel++) {
    for (let pixel = 0; pixel < count; pixel++) {
      const value = image[channel * count + pixel]!;
      if (!Number.isFinite(value)) {
        throw new DyloraError("E_DIVERGED", `draw "${prompt}" with seed ${seed}: a pixel is ${value}`, {
          note: "The adapter or the base model holds numbers that are not finite or too large to compute with.",
        });
      }
      bytes[3 * pixel + channel] = Math.round(Math.min(Math.max(value / 2 + 0.5, 0), 1) * 255);
    }
  }
  return bytes;
}
