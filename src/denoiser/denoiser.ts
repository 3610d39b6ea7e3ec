/** Executes the denoiser: one session per purpose and size, made when first needed and kept while there is memory. */

import { estimateActivationBytes } from "../graph/memory.js";
import type { TileChoice } from "../graph/ops/winograd.js";
import type { Checkpoint } from "../models/checkpoint/types.js";
import type { LoraTarget } from "../models/lora-targets.js";
import type { DeviceName } from "../runtime/device.js";
import { openGraphSession } from "../runtime/graph-session.js";
import { sessionBytes } from "../runtime/memory-estimate.js";
import type { ExecutionMode, HostTensor, Session } from "../runtime/session.js";
import { SessionPool, type SessionPoolOptions } from "../runtime/session-pool.js";
import { PreparedWeights } from "../runtime/weights/prepared-weights.js";
import { batchFeeds, lossFeeds, tokensPerPrompt, trainFeeds } from "./batch-feeds.js";
import { buildDenoiserGraph, type ComputeType, type DenoiserGraph, type Purpose } from "./denoiser-graph.js";
import {
  type ActiveModule,
  branchFeeds,
  branchNames,
  branchResults,
  type FactorGradients,
  ranksOf,
} from "./factors.js";
import { loweringPlan } from "./lowering-plan.js";

export interface DenoiserOptions {
  checkpoint: Pick<Checkpoint, "unet" | "textEncoder">;
  /** Every module that may have a LoRA branch in any execution. */
  targets: readonly LoraTarget[];
  device: DeviceName;
  mode: ExecutionMode;
  /** The rank that memory is reckoned with; any rank can be executed. Default 16. */
  maxRank?: number;
  /** How many sessions are kept; default: those that fit into the memory that is free. */
  pool?: SessionPoolOptions;
  threads?: number | undefined;
  /** Weights that other denoisers of the checkpoint read, too, and that outlive this one; default: its own. */
  prepared?: PreparedWeights;
  /** Default 1. */
  clipSkip?: number;
  gradientCheckpointing?: boolean;
  /** Of activations and weights on the device. Default float32. */
  computeType?: ComputeType;
  /** Which 3x3 convolutions are computed in tiles; default: those that are faster so. */
  convolutionTile?: TileChoice;
}

export type BatchSize = Pick<DenoiserBatch, "count" | "height" | "width">;

/** One batch; `N` samples of latents `[C, H, W]`. */
export interface DenoiserBatch {
  readonly count: number;
  readonly height: number;
  readonly width: number;
  /** Noisy latents, `[N, C, H, W]`. */
  readonly sample: Float32Array;
  readonly timesteps: readonly number[];
  /** Token ids `[N][T]` for the text encoder inside the graph, or its output `[N * T, …]`. */
  readonly text:
    | { readonly tokens: readonly (readonly number[])[] }
    | { readonly context: Float32Array; readonly tokensPerPrompt: number };
}

export interface LossBatch extends DenoiserBatch {
  /** Noise or velocity, `[N, C, H, W]`. */
  readonly target: Float32Array;
}

export interface TrainBatch extends LossBatch {
  /** Weight of each sample in the objective `Σ weight · loss`, `[N]`. */
  readonly lossWeight: Float32Array;
}

const TYPICAL_RANK = 16;

export class Denoiser {
  readonly options: DenoiserOptions;
  readonly #sessions: SessionPool<Session>;
  #lastGraph: (DenoiserGraph & { readonly key: string }) | null = null;
  /** The weights that its sessions share, for other denoisers of the same checkpoint. */
  readonly prepared: PreparedWeights;

  constructor(options: DenoiserOptions) {
    this.options = options;
    this.prepared = options.prepared ?? new PreparedWeights();
    this.#sessions = new SessionPool(options.pool);
  }

  /** Sessions made so far, those included that were released for want of memory and made again. */
  get sessionsMade(): number {
    return this.#sessions.createdCount;
  }

  /** Whether any target lies in the text encoder, which then has to be part of every execution. */
  get includesTextEncoder(): boolean {
    return this.options.targets.some((target) => target.component === "text_encoder");
  }

  /**
   * Predicted noise or velocity.
   *
   * @returns `prediction` `[N, C, H, W]`, and `context` `[N * T, …]` when the text encoder is inside
   */
  async predict(
    batch: DenoiserBatch,
    modules: readonly ActiveModule[],
  ): Promise<{ prediction: Float32Array; context: Float32Array | null }> {
    return readPrediction(await this.#run("predict", batch, modules, {}));
  }

  /** Mean squared error of every sample, `[N]`. */
  async loss(batch: LossBatch, modules: readonly ActiveModule[]): Promise<Float32Array> {
    const outputs = await this.#run("loss", batch, modules, lossFeeds(this.#unetConfig, batch));
    return outputs.loss!.data as Float32Array;
  }

  /**
   * Loss of every sample, and the gradient of the weighted sum for the active components of every module that influences
   * it (by target name).
   *
   * @param into - where the gradients of each module are written: the beginning of arrays that are as large as its factors.
   * Default: memory of their own.
   */
  async gradients(
    batch: TrainBatch,
    modules: readonly ActiveModule[],
    into?: readonly FactorGradients[],
  ): Promise<{ loss: Float32Array; gradients: Map<string, FactorGradients> }> {
    const feeds = trainFeeds(this.#unetConfig, batch);
    const results = into === undefined ? {} : branchResults(modules, into);
    return readGradients(await this.#run("train", batch, modules, feeds, results), modules);
  }

  /** Everything at once, from one session: {@link predict} and {@link gradients}. */
  async inspect(batch: TrainBatch, modules: readonly ActiveModule[]) {
    const outputs = await this.#run("inspect", batch, modules, trainFeeds(this.#unetConfig, batch));
    return { ...readPrediction(outputs), ...readGradients(outputs, modules) };
  }

  /** Prepares the session for batches of a size, so that the first execution does not have to wait for it. */
  async prepare(purpose: Purpose, size: BatchSize, tokens: number): Promise<void> {
    await this.#withSession(purpose, size, tokens, () => {});
  }

  async release(): Promise<void> {
    await this.#sessions.release();
    if (this.options.prepared === undefined) this.prepared.release();
  }

  /** What a session executes. The last one is kept until its session is made: its memory is estimated first. */
  graph(purpose: Purpose, size: BatchSize, tokens: number): DenoiserGraph {
    const key = sessionKey(purpose, size, tokens);
    if (this.#lastGraph?.key === key) return this.#lastGraph;
    const { checkpoint, targets, clipSkip = 1, gradientCheckpointing = false } = this.options;
    const built = buildDenoiserGraph({
      checkpoint,
      targets,
      purpose,
      batch: size.count,
      height: size.height,
      width: size.width,
      tokens,
      includeTextEncoder: this.includesTextEncoder,
      clipSkip,
      gradientCheckpointing,
      ...loweringPlan(this.options).graph,
    });
    this.#lastGraph = { key, ...built };
    return built;
  }

  get #unetConfig() {
    return this.options.checkpoint.unet.config;
  }

  async #run(
    purpose: Purpose,
    batch: DenoiserBatch,
    modules: readonly ActiveModule[],
    extra: Record<string, HostTensor>,
    results: Record<string, HostTensor> = {},
  ): Promise<Record<string, HostTensor>> {
    const feeds = { ...extra, ...branchFeeds(modules), ...batchFeeds(this.#unetConfig, batch) };
    return this.#withSession(purpose, batch, tokensPerPrompt(batch), (session) =>
      session.run(feeds, results),
    );
  }

  #withSession<T>(
    purpose: Purpose,
    size: BatchSize,
    tokens: number,
    work: (session: Session) => T | Promise<T>,
  ): Promise<T> {
    const key = sessionKey(purpose, size, tokens);
    return this.#sessions.use(key, () => this.#open(purpose, size, tokens), work);
  }

  #open(purpose: Purpose, size: BatchSize, tokens: number) {
    const { targets, device, threads, maxRank } = this.options;
    const { mode, keepsWeights, weightUse } = loweringPlan(this.options);
    const { graph, outputs } = this.graph(purpose, size, tokens);
    this.#lastGraph = null;
    // The first session is made whatever it needs.
    const sizeBytes =
      this.#sessions.keys.length === 0
        ? 0
        : sessionBytes(
            {
              name: purpose,
              memory: estimateActivationBytes(graph, outputs, {
                symbols: ranksOf(targets, maxRank ?? TYPICAL_RANK),
                weightUse,
              }),
            },
            this.prepared,
          );
    const session = { device, mode, keepsWeights, weightUse, threads, prepared: this.prepared };
    return { sizeBytes, create: () => openGraphSession(graph, outputs, session) };
  }
}

function sessionKey(purpose: Purpose, { count, height, width }: BatchSize, tokens: number): string {
  return `${purpose} ${count}x${height}x${width}x${tokens}`;
}

type Outputs = Readonly<Record<string, HostTensor>>;

function readPrediction(outputs: Outputs): { prediction: Float32Array; context: Float32Array | null } {
  return {
    prediction: outputs.prediction!.data as Float32Array,
    context: (outputs.context?.data as Float32Array | undefined) ?? null,
  };
}

function readGradients(outputs: Outputs, modules: readonly ActiveModule[]) {
  const gradients = new Map<string, FactorGradients>();
  for (const { factors } of modules) {
    const names = branchNames(factors.target);
    const down = outputs[names.downGradient];
    const up = outputs[names.upGradient];
    if (down === undefined || up === undefined) continue;
    gradients.set(factors.target.name, { down: down.data as Float32Array, up: up.data as Float32Array });
  }
  return { loss: outputs.loss!.data as Float32Array, gradients };
}
