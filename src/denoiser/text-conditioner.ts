/** Hidden states of prompts from a text encoder that does not train, computed once per prompt. */

import { Graph } from "../graph/graph.js";
import { lowerWithWeights } from "../graph/onnx/weight-use.js";
import type { Tensor } from "../graph/tensor.js";
import type { Checkpoint } from "../models/checkpoint/types.js";
import { buildTextEncoder } from "../models/clip.js";
import { Layers } from "../models/layers.js";
import type { LoraTarget } from "../models/lora-targets.js";
import type { DeviceName } from "../runtime/device.js";
import { weightUseOf } from "../runtime/graph-session.js";
import { int64, Session, usableMode } from "../runtime/session.js";
import { branchInputs } from "./denoiser-graph.js";
import { type ActiveModule, branchFeeds } from "./factors.js";

export interface TextConditionerOptions {
  checkpoint: Pick<Checkpoint, "textEncoder">;
  device: DeviceName;
  threads?: number | undefined;
  /** Default 1. */
  clipSkip?: number;
  /** Modules of the text encoder with a LoRA branch; default: none. */
  targets?: readonly LoraTarget[];
}

export class TextConditioner {
  readonly #options: TextConditionerOptions;
  readonly #known = new Map<string, Float32Array>();
  #session: { promise: Promise<Session>; tokens: number } | null = null;

  constructor(options: TextConditionerOptions) {
    this.#options = options;
  }

  /** `[T, hiddenSize]` of a prompt given as token ids; for an encoder without LoRA branches. */
  async encode(tokens: readonly number[]): Promise<Float32Array> {
    const key = tokens.join(",");
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const states = await this.encodeWith(tokens, []);
    this.#known.set(key, states);
    return states;
  }

  /** The same with one active module for each of the targets; not remembered. */
  async encodeWith(tokens: readonly number[], modules: readonly ActiveModule[]): Promise<Float32Array> {
    const session = await this.#open(tokens.length);
    const ids = int64(tokens, [1, tokens.length]);
    const { context } = await session.run({ ...branchFeeds(modules), tokens: ids });
    return context!.data as Float32Array;
  }

  /** The hidden states of several prompts behind each other, `[N * T, hiddenSize]`. */
  async encodeBatch(prompts: readonly (readonly number[])[]): Promise<Float32Array> {
    const states: Float32Array[] = [];
    for (const tokens of prompts) states.push(await this.encode(tokens));
    const joined = new Float32Array(states.reduce((total, { length }) => total + length, 0));
    let offset = 0;
    for (const part of states) {
      joined.set(part, offset);
      offset += part.length;
    }
    return joined;
  }

  async release(): Promise<void> {
    const session = this.#session;
    this.#session = null;
    if (session !== null) await (await session.promise).release();
  }

  async #open(tokens: number): Promise<Session> {
    if (this.#session === null || this.#session.tokens !== tokens) {
      await this.release();
      const promise = this.#create(tokens);
      this.#session = { promise, tokens };
      promise.catch(() => {
        if (this.#session?.promise === promise) this.#session = null;
      });
    }
    return this.#session.promise;
  }

  async #create(tokens: number): Promise<Session> {
    const { checkpoint, device, threads, clipSkip, targets } = this.#options;
    // A prompt is encoded once: preparing the weights would take longer than what it saves.
    const mode = usableMode(device, "lean");
    const weightUse = weightUseOf(device, mode);
    const { graph, outputs } = buildTextGraph(checkpoint.textEncoder, tokens, {
      clipSkip: clipSkip ?? 1,
      foldsConstants: weightUse !== "perUse",
      ...(targets === undefined ? {} : { targets }),
    });
    return Session.create(lowerWithWeights(graph, outputs, weightUse).model, { device, mode, threads });
  }
}

/** Inputs: `tokens` int64 `[1, tokens]`, and those of the LoRA branches; output `context` `[tokens, hiddenSize]`. */
export function buildTextGraph(
  { config, weights }: Checkpoint["textEncoder"],
  tokens: number,
  options: { clipSkip: number; foldsConstants: boolean; targets?: readonly LoraTarget[] },
): { graph: Graph; outputs: { context: Tensor } } {
  const { clipSkip, foldsConstants, targets = [] } = options;
  const graph = new Graph();
  const { text_encoder: lora } = branchInputs(graph, targets, false).branches;
  const layers = new Layers(graph, { namespace: "text_encoder", weights, lora, foldsConstants });
  const ids = graph.input("tokens", "int64", [1, tokens]);
  return { graph, outputs: { context: buildTextEncoder(layers, config, ids, clipSkip) } };
}
