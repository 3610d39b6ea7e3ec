/** Prompts as the U-Net takes them, with adapters inside the text encoder. */

import { type ClipTokenizer, loadClipTokenizer } from "../data/index.js";
import { TextConditioner } from "../denoiser/text-conditioner.js";
import type { Checkpoint } from "../models/checkpoint/types.js";
import type { LoraTarget } from "../models/lora-targets.js";
import type { DeviceName } from "../runtime/device.js";
import { combineAdapters, type LoadedAdapter } from "./loaded-adapter.js";
import type { AppliedAdapter } from "./types.js";

export interface PromptEncoderOptions {
  checkpoint: Checkpoint;
  /** The text encoder's modules that any adapter changes. */
  targets: readonly LoraTarget[];
  device: DeviceName;
  threads?: number | undefined;
  clipSkip: number;
  onWarning: (message: string) => void;
}

export class PromptEncoder {
  readonly #options: PromptEncoderOptions;
  readonly #tokenizer: ClipTokenizer;
  readonly #conditioner: TextConditioner;
  readonly #states = new Map<string, Promise<Float32Array>>();
  readonly #adapterIds = new Map<LoadedAdapter, number>();
  readonly #truncated = new Set<string>();

  private constructor(options: PromptEncoderOptions, tokenizer: ClipTokenizer) {
    const { checkpoint, device, threads, clipSkip, targets } = options;
    this.#options = options;
    this.#tokenizer = tokenizer;
    this.#conditioner = new TextConditioner({ checkpoint, device, threads, clipSkip, targets });
  }

  static async open(options: PromptEncoderOptions): Promise<PromptEncoder> {
    const { tokenizerDir, version } = options.checkpoint;
    return new PromptEncoder(options, await loadClipTokenizer({ tokenizerDir, version }));
  }

  /** Hidden states of a prompt, `[T, hiddenSize]`, computed once for the same adapters. */
  encode(prompt: string, applied: readonly AppliedAdapter[]): Promise<Float32Array> {
    const { targets, onWarning } = this.#options;
    const { ids, truncatedTokens } = this.#tokenizer.encode(prompt);
    if (truncatedTokens > 0 && !this.#truncated.has(prompt)) {
      this.#truncated.add(prompt);
      onWarning(`Prompts are cut after 75 tokens; this one has ${truncatedTokens} more: "${prompt}".`);
    }
    const key = JSON.stringify([ids, this.#adaptersKey(applied)]);
    let states = this.#states.get(key);
    if (states === undefined) {
      states = this.#conditioner.encodeWith(ids, combineAdapters(targets, applied));
      this.#states.set(key, states);
      states.catch(() => this.#states.delete(key));
    }
    return states;
  }

  /** Ends the session; states that were computed stay. */
  async release(): Promise<void> {
    await this.#conditioner.release();
  }

  /** What of the adapters the text encoder depends on. */
  #adaptersKey(applied: readonly AppliedAdapter[]): number[][] {
    return applied
      .filter(({ adapter, rank }) => rank > 0 && adapter.targets.some(isTextTarget))
      .map(({ adapter, rank, multiplier = 1 }) => [this.#idOf(adapter), rank, multiplier]);
  }

  #idOf(adapter: LoadedAdapter): number {
    const known = this.#adapterIds.get(adapter);
    if (known !== undefined) return known;
    this.#adapterIds.set(adapter, this.#adapterIds.size);
    return this.#adapterIds.size - 1;
  }
}

function isTextTarget({ component }: LoraTarget): boolean {
  return component === "text_encoder";
}
