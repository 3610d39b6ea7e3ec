/** How long steps take and how long the rest will. */

/** Weight of the newest step in the smoothed time; the first steps of a session are not like the others. */
const NEWEST_SHARE = 0.1;

export class StepTimer {
  readonly #totalSteps: number;
  readonly #createdAt = performance.now();
  #since = performance.now();
  #last = 0;
  #smoothed: number | null = null;

  constructor(totalSteps: number) {
    this.#totalSteps = totalSteps;
  }

  /** The first step begins now. */
  start(): void {
    this.#since = performance.now();
  }

  /** A step has ended. */
  step(): void {
    const now = performance.now();
    this.#last = (now - this.#since) / 1000;
    this.#since = now;
    this.#smoothed =
      this.#smoothed === null ? this.#last : this.#smoothed + NEWEST_SHARE * (this.#last - this.#smoothed);
  }

  /** What happened since the last step (validation, saving) is no part of the next one. */
  exclude(): void {
    this.#since = performance.now();
  }

  get lastSeconds(): number {
    return this.#last;
  }

  get smoothedSeconds(): number {
    return this.#smoothed ?? 0;
  }

  etaSeconds(stepsDone: number): number {
    return (this.#totalSteps - stepsDone) * this.smoothedSeconds;
  }

  get totalSeconds(): number {
    return (performance.now() - this.#createdAt) / 1000;
  }
}
