/** Images of latents from the VAE's decoder. */

import { Graph } from "../graph/graph.js";
import type { WeightUse } from "../graph/onnx/weight-use.js";
import type { Tensor } from "../graph/tensor.js";
import { vaeDownsampleFactor } from "../models/config.js";
import { Layers } from "../models/layers.js";
import { buildVaeDecoder } from "../models/vae.js";
import { openGraphSession, weightUseOf } from "../runtime/graph-session.js";
import { float32, type Session } from "../runtime/session.js";
import { PreparedWeights } from "../runtime/weights/prepared-weights.js";
import type { LatentEncoderOptions } from "./latent-encoder.js";
import { tileChoiceOf } from "./lowering-plan.js";

export class LatentDecoder {
  readonly #options: LatentEncoderOptions;
  readonly #sessions = new Map<string, Promise<Session>>();
  readonly #prepared = new PreparedWeights();

  constructor(options: LatentEncoderOptions) {
    this.#options = options;
  }

  /** Pixels of one image for each latent pixel, along one side. */
  get factor(): number {
    return vaeDownsampleFactor(this.#options.vae.config);
  }

  /**
   * @param latent - `[latentChannels, height, width]`, already divided by `scalingFactor`
   * @returns the image, `[3, height * factor, width * factor]`, about [-1, 1]
   */
  async decode(latent: Float32Array, height: number, width: number): Promise<Float32Array> {
    const { latentChannels } = this.#options.vae.config;
    const session = await this.#open(height, width);
    const { image } = await session.run({ latent: float32(latent, [1, latentChannels, height, width]) });
    return image!.data as Float32Array;
  }

  async release(): Promise<void> {
    for (const session of this.#sessions.values()) await (await session).release();
    this.#sessions.clear();
    this.#prepared.release();
  }

  #open(height: number, width: number): Promise<Session> {
    const key = `${height}x${width}`;
    let session = this.#sessions.get(key);
    if (session === undefined) {
      session = this.#create(height, width);
      this.#sessions.set(key, session);
      session.catch(() => this.#sessions.delete(key));
    }
    return session;
  }

  async #create(height: number, width: number): Promise<Session> {
    const { vae, device, threads } = this.#options;
    const weightUse = weightUseOf(device, "fast");
    const { graph, outputs } = buildLatentDecoderGraph(vae, weightUse, height, width);
    const prepared = this.#prepared;
    return openGraphSession(graph, outputs, { device, mode: "fast", weightUse, threads, prepared });
  }
}

/** Input `latent` `[1, latentChannels, height, width]`; output `image`. */
export function buildLatentDecoderGraph(
  vae: LatentEncoderOptions["vae"],
  weightUse: WeightUse,
  height: number,
  width: number,
): { graph: Graph; outputs: { image: Tensor } } {
  const graph = new Graph();
  const layers = new Layers(graph, {
    namespace: "vae",
    weights: vae.weights,
    foldsConstants: weightUse !== "perUse",
    convolutionTile: tileChoiceOf(weightUse),
  });
  const latent = graph.input("latent", "float32", [1, vae.config.latentChannels, height, width]);
  return { graph, outputs: { image: buildVaeDecoder(layers, vae.config, latent) } };
}
