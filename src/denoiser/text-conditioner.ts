/** Hidden states of prompts from a frozen text encoder, computed once per prompt. */

import { Graph } from "../graph/graph.js";
import { lowerToOnnx } from "../graph/onnx/lower.js";
import type { Tensor } from "../graph/tensor.js";
import type { Checkpoint } from "../models/checkpoint/types.js";
import { buildTextEncoder } from "../models/clip.js";
import { Layers } from "../models/layers.js";
import type { DeviceName } from "../runtime/device.js";
import { int64, Session, usableMode } from "../runtime/session.js";

export interface TextConditionerOptions {
  checkpoint: Pick<Checkpoint, "textEncoder">;
  device: DeviceName;
  threads?: number | undefined;
  /** Default 1. */
  clipSkip?: number;
}

export class TextConditioner {
  readonly #options: TextConditionerOptions;
  readonly #known = new Map<string, Float32Array>();
  #session: { promise: Promise<Session>; tokens: number } | null = null;

  constructor(options: TextConditionerOptions) {
    this.#options = options;
  }

  /** `[T, hiddenSize]` of a prompt given as token ids. */
  async encode(tokens: readonly number[]): Promise<Float32Array> {
    const key = tokens.join(",");
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const session = await this.#open(tokens.length);
    const { context } = await session.run({ tokens: int64(tokens, [1, tokens.length]) });
    const states = context!.data as Float32Array;
    this.#known.set(key, states);
    return states;
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
    const { checkpoint, device, threads, clipSkip } = this.#options;
    // A prompt is encoded once: preparing the weights would take longer than what it saves.
    const mode = usableMode(device, "lean");
    const { graph, outputs } = buildTextGraph(checkpoint.textEncoder, tokens, {
      clipSkip: clipSkip ?? 1,
      foldsConstants: mode === "fast",
    });
    const model = lowerToOnnx(graph, outputs, { weightConversionPerUse: mode === "lean" });
    return Session.create(model, { device, mode, threads });
  }
}

/** Input `tokens` int64 `[1, tokens]`; output `context` `[tokens, hiddenSize]`. */
export function buildTextGraph(
  { config, weights }: Checkpoint["textEncoder"],
  tokens: number,
  options: { clipSkip: number; foldsConstants: boolean },
): { graph: Graph; outputs: { context: Tensor } } {
  const { clipSkip, foldsConstants } = options;
  const graph = new Graph();
  const layers = new Layers(graph, { namespace: "text_encoder", weights, foldsConstants });
  const ids = graph.input("tokens", "int64", [1, tokens]);
  return { graph, outputs: { context: buildTextEncoder(layers, config, ids, clipSkip) } };
}
