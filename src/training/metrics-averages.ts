/** Smoothed losses: the loss of a single step is dominated by the timestep and the rank it happened to draw. */

/** Steps after which an old value still weighs 37 % (1/e) of a new one. */
export const LOSS_TIME_CONSTANT_STEPS = 100;

/** What an average consists of; JSON keeps every bit of it, so a resumed run goes on with the same numbers. */
export interface AverageState {
  weightedSum: number;
  weight: number;
  /** Values so far. */
  count: number;
}

/**
 * Exponential moving average without the usual bias towards the start: after n values `x`, the newest last,
 *
 *     sum of exp(-(n - i) / timeConstant) x_i  /  sum of exp(-(n - i) / timeConstant)
 */
export class ExponentialAverage {
  readonly #keep: number;
  #state: AverageState;

  /** @param timeConstant - number of values, above 0 */
  constructor(
    timeConstant = LOSS_TIME_CONSTANT_STEPS,
    state: AverageState = { weightedSum: 0, weight: 0, count: 0 },
  ) {
    this.#keep = Math.exp(-1 / timeConstant);
    this.#state = { ...state };
  }

  /** Takes in a value and returns the new average. */
  add(value: number): number {
    const { weightedSum, weight, count } = this.#state;
    this.#state = {
      weightedSum: weightedSum * this.#keep + value,
      weight: weight * this.#keep + 1,
      count: count + 1,
    };
    return this.#state.weightedSum / this.#state.weight;
  }

  /** Null before the first value. */
  get value(): number | null {
    return this.#state.count === 0 ? null : this.#state.weightedSum / this.#state.weight;
  }

  get state(): AverageState {
    return { ...this.#state };
  }
}

/** The loss of a run, smoothed over all steps and over the draws of each rank. */
export class LossAverages {
  readonly overall: ExponentialAverage;
  readonly #byRank = new Map<number, ExponentialAverage>();

  constructor(state?: LossAveragesState) {
    this.overall = new ExponentialAverage(LOSS_TIME_CONSTANT_STEPS, state?.overall);
    for (const [rank, average] of Object.entries(state?.byRank ?? {})) {
      this.#byRank.set(Number(rank), new ExponentialAverage(LOSS_TIME_CONSTANT_STEPS, average));
    }
  }

  /** Takes in the loss of a step, or of one micro-step, and the rank it was computed at. */
  add(rank: number, loss: number): void {
    this.overall.add(loss);
    const average = this.#byRank.get(rank) ?? new ExponentialAverage();
    average.add(loss);
    this.#byRank.set(rank, average);
  }

  /** By ascending rank: the smoothed loss and how often the rank was drawn. */
  ranks(): { rank: number; loss: number; draws: number }[] {
    return [...this.#byRank]
      .sort(([a], [b]) => a - b)
      .map(([rank, average]) => ({ rank, loss: average.value!, draws: average.state.count }));
  }

  /** For the state of the run; give it to the constructor to go on. */
  get state(): LossAveragesState {
    const byRank = [...this.#byRank].map(([rank, average]) => [rank, average.state]);
    return { overall: this.overall.state, byRank: Object.fromEntries(byRank) };
  }
}

export interface LossAveragesState {
  overall: AverageState;
  /** Keys are ranks. */
  byRank: Record<string, AverageState>;
}
