/** Latent distributions of images from the VAE's encoder. */

import { DyloraError } from "../errors.js";
import { Graph } from "../graph/graph.js";
import { estimateActivationBytes } from "../graph/memory.js";
import type { WeightUse } from "../graph/onnx/weight-use.js";
import type { Tensor } from "../graph/tensor.js";
import type { Checkpoint } from "../models/checkpoint/types.js";
import { vaeDownsampleFactor } from "../models/config.js";
import { Layers } from "../models/layers.js";
import { buildVaeEncoder } from "../models/vae.js";
import type { DeviceName } from "../runtime/device.js";
import { openGraphSession, weightUseOf } from "../runtime/graph-session.js";
import { sessionBytes } from "../runtime/memory-estimate.js";
import { type ExecutionMode, float32, type Session, usableMode } from "../runtime/session.js";
import { SessionPool } from "../runtime/session-pool.js";
import { PreparedWeights } from "../runtime/weights/prepared-weights.js";
import { tileChoiceOf } from "./lowering-plan.js";

export interface LatentEncoderOptions {
  vae: NonNullable<Checkpoint["vae"]>;
  device: DeviceName;
  /** Lean where few images are encoded: preparing the weights takes about as long as encoding an image of 256 px. Default fast. */
  mode?: ExecutionMode;
  threads?: number | undefined;
  /** Images come size after size: a session is released when the next size begins. Default false. */
  oneSizeAtATime?: boolean;
}

/** Mean and log-variance of a latent, `[latentChannels, height, width]` each. */
export interface LatentMoments {
  readonly mean: Float32Array;
  readonly logvar: Float32Array;
  readonly height: number;
  readonly width: number;
}

export class LatentEncoder {
  readonly #options: LatentEncoderOptions;
  readonly #sessions: SessionPool<Session>;
  readonly #prepared = new PreparedWeights();

  constructor(options: LatentEncoderOptions) {
    this.#options = options;
    this.#sessions = new SessionPool(options.oneSizeAtATime ? { most: 1 } : {});
  }

  /**
   * @param image - `[3, height, width]` in [-1, 1]; both sides multiples of the VAE's factor (8 in Stable Diffusion)
   * @throws {DyloraError} `E_INCOMPATIBLE` for other sizes
   */
  async encode(image: Float32Array, height: number, width: number): Promise<LatentMoments> {
    const { config } = this.#options.vae;
    const factor = vaeDownsampleFactor(config);
    if (height % factor !== 0 || width % factor !== 0) {
      throw new DyloraError(
        "E_INCOMPATIBLE",
        `encode image: ${width}x${height} is not a multiple of ${factor}`,
        {
          note: `This checkpoint's VAE makes one latent pixel of ${factor} x ${factor}: choose --resolution accordingly.`,
        },
      );
    }
    const feeds = { image: float32(image, [1, config.inChannels, height, width]) };
    const { mean, logvar } = await this.#sessions.use(
      `${height}x${width}`,
      () => this.#open(height, width),
      (session) => session.run(feeds),
    );
    return {
      mean: mean!.data as Float32Array,
      logvar: logvar!.data as Float32Array,
      height: height / factor,
      width: width / factor,
    };
  }

  async release(): Promise<void> {
    await this.#sessions.release();
    this.#prepared.release();
  }

  #open(height: number, width: number) {
    const { vae, device, threads } = this.#options;
    const mode = usableMode(device, this.#options.mode ?? "fast");
    const weightUse = weightUseOf(device, mode);
    const { graph, outputs } = buildLatentEncoderGraph(vae, weightUse, height, width);
    const memory = estimateActivationBytes(graph, outputs, { symbols: {}, weightUse });
    const session = { device, mode, weightUse, threads, prepared: this.#prepared };
    return {
      sizeBytes: sessionBytes({ name: "VAE encoder", memory }, this.#prepared),
      create: () => openGraphSession(graph, outputs, session),
    };
  }
}

/** Input `image` `[1, 3, height, width]`; outputs `mean` and `logvar`. */
export function buildLatentEncoderGraph(
  vae: LatentEncoderOptions["vae"],
  weightUse: WeightUse,
  height: number,
  width: number,
): { graph: Graph; outputs: { mean: Tensor; logvar: Tensor } } {
  const graph = new Graph();
  const layers = new Layers(graph, {
    namespace: "vae",
    weights: vae.weights,
    foldsConstants: weightUse !== "perUse",
    convolutionTile: tileChoiceOf(weightUse),
  });
  const image = graph.input("image", "float32", [1, vae.config.inChannels, height, width]);
  return { graph, outputs: buildVaeEncoder(layers, vae.config, image) };
}
