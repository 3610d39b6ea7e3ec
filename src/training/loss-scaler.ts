/** Dynamic loss scaling (Micikevicius et al. 2018, arXiv:1710.03740), with the constants of torch.amp.GradScaler. */

const START = 2 ** 16;
const GROWTH = 2;
const BACKOFF = 0.5;
/** Steps without an overflow before the scale grows. */
const GROWTH_INTERVAL = 2000;
/** Gradients that overflow float16 unscaled are no matter of scaling. */
const SMALLEST = 1;

export interface LossScaleState {
  readonly scale: number;
  /** Steps taken since the scale changed. */
  readonly goodSteps: number;
  /** Steps skipped since the run began. */
  readonly skippedSteps: number;
}

/**
 * The factor on the loss whose gradients neither vanish nor overflow in float16. Always a power of two, so that it
 * changes no digit.
 */
export class LossScaler {
  #state: LossScaleState;

  /** @param state - of a run that goes on */
  constructor(state: LossScaleState = { scale: START, goodSteps: 0, skippedSteps: 0 }) {
    this.#state = state;
  }

  get state(): LossScaleState {
    return this.#state;
  }

  get scale(): number {
    return this.#state.scale;
  }

  /** A step was taken: its gradients were finite. */
  taken(): void {
    const { scale, goodSteps, skippedSteps } = this.#state;
    const grows = goodSteps + 1 === GROWTH_INTERVAL;
    this.#state = {
      scale: grows ? scale * GROWTH : scale,
      goodSteps: grows ? 0 : goodSteps + 1,
      skippedSteps,
    };
  }

  /**
   * A step was skipped: a gradient overflowed.
   *
   * @returns whether a smaller scale is worth trying
   */
  skipped(): boolean {
    const { scale, skippedSteps } = this.#state;
    this.#state = { scale: scale * BACKOFF, goodSteps: 0, skippedSteps: skippedSteps + 1 };
    return this.#state.scale >= SMALLEST;
  }
}
