/** The training step of a {@link Denoiser} with factors and gradients in the memory of the device. */

import { lowerWithWeights } from "../graph/onnx/weight-use.js";
import type { LoraTarget } from "../models/lora-targets.js";
import { DeviceSession, type DeviceTensor, type ResidentDevice } from "../runtime/device-session.js";
import { float32, type HostTensor, int64 } from "../runtime/session.js";
import { SessionPool } from "../runtime/session-pool.js";
import { batchFeeds, tokensPerPrompt, trainFeeds } from "./batch-feeds.js";
import type { DenoiserBatch, DenoiserOptions, TrainBatch } from "./denoiser.js";
import { buildDenoiserGraph } from "./denoiser-graph.js";
import { branchNames } from "./factors.js";
import { loweringPlan } from "./lowering-plan.js";

/** What one module contributes to one execution. */
export interface ResidentModule {
  readonly target: LoraTarget;
  /** Both factors whole, `[maxRank, …]`. */
  readonly down: HostTensor | DeviceTensor;
  readonly up: HostTensor | DeviceTensor;
  /** Components `0..rank` take part; 0: the module does nothing. */
  readonly rank: number;
  readonly scale: number;
  /** The first component that gets a gradient; those before it take part but do not learn. */
  readonly trainedBegin: number;
}

export interface ResidentGradients {
  /** `[maxRank, …]`, zero for components without gradient. */
  readonly down: DeviceTensor;
  readonly up: DeviceTensor;
}

export class ResidentDenoiser {
  readonly #options: DenoiserOptions & { readonly device: ResidentDevice };
  readonly #ranks: ReadonlyMap<string, number>;
  readonly #sessions: SessionPool<DeviceSession>;

  /** @param ranks - the maximum rank of every target, by its name */
  constructor(
    options: DenoiserOptions & { readonly device: ResidentDevice },
    ranks: ReadonlyMap<string, number>,
  ) {
    this.#options = options;
    this.#ranks = ranks;
    this.#sessions = new SessionPool(options.pool);
  }

  /** See {@link Denoiser.prepare}. */
  async prepare(size: Pick<DenoiserBatch, "count" | "height" | "width">, tokens: number): Promise<void> {
    await this.#withSession(size, tokens, () => {});
  }

  /** Like {@link Denoiser.gradients}; who calls it disposes of the gradients. */
  async gradients(
    batch: TrainBatch,
    modules: readonly ResidentModule[],
  ): Promise<{ loss: Float32Array; gradients: ReadonlyMap<string, ResidentGradients> }> {
    const { config } = this.#options.checkpoint.unet;
    const feeds: Record<string, HostTensor | DeviceTensor> = {
      ...trainFeeds(config, batch),
      ...batchFeeds(config, batch),
    };
    for (const module of modules) Object.assign(feeds, this.#moduleFeeds(module));
    const { host, device } = await this.#withSession(batch, tokensPerPrompt(batch), (session) =>
      session.run(feeds),
    );
    const gradients = new Map<string, ResidentGradients>();
    for (const { target } of modules) {
      const names = branchNames(target);
      const [down, up] = [device[names.downGradient], device[names.upGradient]];
      // Missing where the module does not influence the loss.
      if (down !== undefined && up !== undefined) gradients.set(target.name, { down, up });
    }
    return { loss: host.loss!.data as Float32Array, gradients };
  }

  async release(): Promise<void> {
    await this.#sessions.release();
  }

  #moduleFeeds({ target, down, up, rank, scale, trainedBegin }: ResidentModule) {
    const names = branchNames(target);
    // As in branchFeeds: rank 0 is one component of strength 0, whose gradients are zeros.
    const end = Math.max(rank, 1);
    const begin = rank === 0 ? 0 : trainedBegin;
    const behind = this.#ranks.get(target.name)! - end;
    return {
      [names.down]: down,
      [names.up]: up,
      [names.scale]: float32(Float32Array.of(rank === 0 ? 0 : scale), []),
      [names.rowsEnd]: int64([end], [1]),
      [names.rowsTrainedBegin]: int64([begin], [1]),
      [names.rowsUntrained]: int64([begin, 0, behind, 0], [4]),
    };
  }

  #withSession<T>(
    { count, height, width }: Pick<DenoiserBatch, "count" | "height" | "width">,
    tokens: number,
    work: (session: DeviceSession) => T | Promise<T>,
  ): Promise<T> {
    const key = `${count}x${height}x${width}x${tokens}`;
    // Its memory is the device's, which nobody can ask for what is free.
    const open = () => ({ sizeBytes: 0, create: () => this.#create({ count, height, width }, tokens) });
    return this.#sessions.use(key, open, work);
  }

  #create(size: Pick<DenoiserBatch, "count" | "height" | "width">, tokens: number): Promise<DeviceSession> {
    const { checkpoint, targets, device, clipSkip = 1, gradientCheckpointing = false } = this.#options;
    const plan = loweringPlan(this.#options);
    const { graph, outputs } = buildDenoiserGraph({
      checkpoint,
      targets,
      purpose: "train",
      batch: size.count,
      height: size.height,
      width: size.width,
      tokens,
      includeTextEncoder: targets.some(({ component }) => component === "text_encoder"),
      clipSkip,
      gradientCheckpointing,
      wholeFactors: this.#ranks,
      ...plan.graph,
    });
    const { mode, keepsWeights } = plan;
    return DeviceSession.create(lowerWithWeights(graph, outputs, plan.weightUse).model, {
      ...{ device, mode, keepsWeights },
      onHost: ["loss"],
    });
  }
}
