/** Where a run's factors, gradients and optimizer state live, and what happens to them there. */

import type { DenoiserBatch, TrainBatch } from "../../denoiser/denoiser.js";
import type { ComponentRange } from "../../dylora/index.js";
import type { RunProgress } from "../run-state.js";

/** What was drawn for one module. */
export interface ModuleDraw {
  /** Components `0..rank` take part; 0: the module does nothing. */
  readonly rank: number;
  /** Of those, the components that learn. */
  readonly rows: ComponentRange;
}

export type LearningRates = Readonly<Record<"unet" | "text_encoder", number>>;

/** What a run goes back to when it diverges. */
export interface GoodState {
  /** The run as it is now: its loss and gradients were seen to be finite. */
  remember(progress: RunProgress): void;
  /** Makes the run what it was when it was remembered last. */
  restore(progress: RunProgress): void;
}

/**
 * One step: {@link reset}, {@link accumulate} once for every micro-step, {@link gradientNorm}, and {@link update} unless the step
 * is skipped.
 */
export interface ParameterStore {
  /** Everything stays in the memory of the device. */
  readonly isResident: boolean;
  readonly lastGood: GoodState;
  /** Makes the session for batches of a size ahead of time. */
  prepare(size: Pick<DenoiserBatch, "count" | "height" | "width">, tokens: number): Promise<void>;
  /** Forgets the gradients. */
  reset(): void;
  /**
   * Adds the gradients of one micro-step to those of the step.
   *
   * @param draws - one for each module of the run
   * @returns the loss of every sample, `[N]`
   */
  accumulate(batch: TrainBatch, draws: readonly ModuleDraw[]): Promise<Float32Array>;
  /** L2 norm of all gradients of the step, each times `scale`; not finite if any gradient is not. */
  gradientNorm(scale: number): Promise<number>;
  /** The optimizer's step, for the components that learned in any micro-step. */
  update(gradientScale: number, learningRates: LearningRates): Promise<void>;
  /** Brings the arrays of the run's modules up to date. To be awaited before anything but the store reads them. */
  toHost(): Promise<void>;
  release(): Promise<void>;
}
