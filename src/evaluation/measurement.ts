/** Measures adapters on the same samples, and nothing twice. */

import type { DatasetItem } from "../data/index.js";
import type { Denoiser } from "../denoiser/denoiser.js";
import type { ActiveModule } from "../denoiser/factors.js";
import { DyloraError } from "../errors.js";
import type { BenchProgress } from "./bench-types.js";
import { batchesOfOneSize, type HeldOut, type HeldOutSample } from "./held-out.js";
import type { LossRecord, LossStore } from "./loss-store.js";

/** An adapter as it is applied: a file at a rank with a multiplier, or nothing. */
export interface Variant {
  /** Variants of the same key are the same function, and measured once. */
  readonly key: string;
  /** `rank 8 of cat.safetensors`. */
  readonly name: string;
  /** One for every target of the denoiser. */
  modules(): readonly ActiveModule[];
}

/** A sample with the key of everything that its losses depend on beside model and adapter. */
export interface KeyedSample extends HeldOutSample {
  readonly sampleKey: string;
}

export interface MeasurementOptions {
  readonly heldOut: HeldOut;
  readonly denoiser: Denoiser;
  readonly batchSize: number;
  /** Each of another content. */
  readonly variants: readonly Variant[];
  readonly model: string;
  /** What timings depend on beside model and adapter, see `LossRecord.setting`. */
  readonly setting: string;
  readonly store: LossStore;
  /** Everything that may be measured, for the progress. */
  readonly samples: readonly KeyedSample[];
  /** Makes executions possible, on these images; called before any, again where other images are needed. */
  readonly prepare: (items: readonly DatasetItem[]) => Promise<void>;
  readonly onProgress: (progress: BenchProgress) => void;
  readonly signal: AbortSignal;
}

export class Measurement {
  readonly #options: MeasurementOptions;
  readonly #prepared = new Set<DatasetItem>();
  /** Losses that the store lacked when the measurement began and lacks still. */
  #missing: number;
  #measured = 0;
  #executionSeconds = 0;
  #executions = 0;
  /** Variants with something to measure that were not executed yet. */
  readonly #untimed: Set<Variant>;

  constructor(options: MeasurementOptions) {
    this.#options = options;
    const missing = this.#missingOf(options.samples);
    this.#missing = missing.length;
    this.#untimed = new Set(missing.map(({ variant }) => variant));
  }

  /** Losses that are to be computed, if all samples are measured. */
  get missingLosses(): number {
    return this.#missing;
  }

  /** Losses that this measurement computed. */
  get measuredLosses(): number {
    return this.#measured;
  }

  /**
   * Measures every variant on samples, batch by batch: all variants on one batch before the next, so that whatever slows
   * the machine down slows all of them, and an interrupted run has whole pairs.
   *
   * @throws {DyloraError} `E_DIVERGED` with the variant's name, `E_WRITE` where a loss cannot be kept; the signal's reason
   */
  async measure(samples: readonly KeyedSample[]): Promise<void> {
    const { batchSize, variants, signal } = this.#options;
    const missing = this.#missingOf(samples);
    if (missing.length === 0) return;
    await this.#prepare(missing.map(({ sample }) => sample.item));
    const wanted = new Set(missing.map(({ sample }) => sample));
    const todo = samples.filter((sample) => wanted.has(sample));
    for (const batch of batchesOfOneSize(todo, batchSize)) {
      for (const variant of variants) {
        const lacking = batch.filter((sample) => this.#find(variant, sample) === null);
        if (lacking.length === 0) continue;
        signal.throwIfAborted();
        await this.#execute(variant, lacking);
      }
    }
  }

  /** The losses of a variant on samples that were measured. */
  losses(key: string, samples: readonly KeyedSample[]): Float64Array {
    return Float64Array.from(samples, (sample) => this.#find({ key }, sample)!.loss);
  }

  /** Seconds of the executions that were timed in this setting, a sample each. */
  seconds(key: string, samples: readonly KeyedSample[]): number[] {
    const records = samples.map((sample) => this.#find({ key }, sample)!);
    return records.filter(({ setting }) => setting === this.#options.setting).map(({ seconds }) => seconds);
  }

  #find({ key }: Pick<Variant, "key">, { sampleKey }: KeyedSample): LossRecord | null {
    const { store, model } = this.#options;
    return store.find({ model, adapter: key, sample: sampleKey });
  }

  #missingOf(samples: readonly KeyedSample[]): { variant: Variant; sample: KeyedSample }[] {
    const pairs = samples.flatMap((sample) => this.#options.variants.map((variant) => ({ variant, sample })));
    return pairs.filter(({ variant, sample }) => this.#find(variant, sample) === null);
  }

  async #prepare(items: readonly DatasetItem[]): Promise<void> {
    const others = [...new Set(items)].filter((item) => !this.#prepared.has(item));
    if (others.length === 0) return;
    await this.#options.prepare(others);
    for (const item of others) this.#prepared.add(item);
  }

  async #execute(variant: Variant, samples: readonly KeyedSample[]): Promise<void> {
    const { heldOut, denoiser, store, model, setting } = this.#options;
    const modules = variant.modules();
    // Drawing the noises is no part of a step, and mostly done for the variant before.
    await heldOut.batchOf(samples);
    const startedAt = performance.now();
    const losses = await heldOut.lossesOf(samples, denoiser, modules).catch((error: unknown) => {
      throw named(error, variant.name);
    });
    const seconds = (performance.now() - startedAt) / 1000;
    store.add(
      samples.map(({ sampleKey, image, timestep }, index) => ({
        ...{ model, adapter: variant.key, sample: sampleKey },
        loss: losses[index]!,
        seconds,
        setting,
        ...{ adapterName: variant.name, image, timestep },
      })),
    );
    this.#missing -= samples.length;
    this.#measured += samples.length;
    this.#executions++;
    this.#executionSeconds += seconds;
    this.#untimed.delete(variant);
    this.#report(variant);
  }

  #report({ name }: Variant): void {
    const { samples, variants, batchSize, onProgress } = this.#options;
    const total = samples.length * variants.length;
    // Ranks take different times: once each was executed, the mean stands for all of them.
    const isTimed = this.#untimed.size === 0;
    const secondsPerLoss = this.#executionSeconds / (this.#executions * batchSize);
    onProgress({
      task: name,
      done: total - this.#missing,
      total,
      secondsLeft: isTimed ? this.#missing * secondsPerLoss : null,
    });
  }
}

/** Says which file, at which rank, an error belongs to. */
function named(error: unknown, name: string): unknown {
  if (!(error instanceof DyloraError) || error.code !== "E_DIVERGED") return error;
  const { code, message, note, cause } = error;
  return new DyloraError(code, `bench: ${name}: ${message}`, { ...(note && { note }), cause });
}
