/**
 * What a frozen text encoder makes of each caption, computed once.
 */
import pLimit from "p-limit";
import { DyloraError } from "../errors.js";
import { SharedWork } from "./shared-work.js";
import { cacheKey, type TensorCache } from "./tensor-cache.js";

export interface TextCacheOptions {
  cache: TensorCache;
  /** Names the text encoder's weights, for example by their SHA-256. */
  encoderIdentity: string;
  /** `--clip_skip`; 1 is the last layer. */
  clipSkip: number;
  /**
   * Runs the text encoder on the token ids of one prompt: `[tokens, hiddenSize]`. Never called twice at the same
   * time.
   */
  encode(ids: readonly number[]): Promise<Float32Array>;
}

/**
 * Caches the text encoder's hidden states by token ids, encoder and clip skip.
 *
 * Only for a text encoder that does not train. Captions that are shuffled every time seldom meet their entry again;
 * with them the cache is of no use (`isCaptionFixed`).
 */
export class TextCache {
  readonly #options: TextCacheOptions;
  readonly #encoderTurn = pLimit(1);
  readonly #reads = new SharedWork<Float32Array>();

  constructor(options: TextCacheOptions) {
    this.#options = options;
  }

  /**
   * The hidden states of a prompt, `[ids.length, hiddenSize]`.
   *
   * @throws {DyloraError} `E_DIVERGED` if the encoder's answer is not finite, `E_WRITE` from the cache
   */
  async read(ids: readonly number[]): Promise<Float32Array> {
    const { encoderIdentity, clipSkip } = this.#options;
    const key = cacheKey("text encoder states", { ids, encoder: encoderIdentity, clipSkip });
    return this.#reads.run(key, () => this.#readOrCompute(key, ids));
  }

  async #readOrCompute(key: string, ids: readonly number[]): Promise<Float32Array> {
    const { cache, encode } = this.#options;
    const cached = (await cache.get(key))?.states;
    if (cached !== undefined && cached.shape[0] === ids.length) return cached.data;
    const states = await this.#encoderTurn(() => encode(ids));
    if (!states.every(Number.isFinite)) {
      throw new DyloraError("E_DIVERGED", "encode caption: the text encoder's answer is not finite", {
        note: "Its weights may be damaged: check the checkpoint. Nothing was cached.",
      });
    }
    await cache.put(key, { states: { shape: [ids.length, states.length / ids.length], data: states } });
    return states;
  }
}
