/** What a run goes back to when it diverges. */

import { LossAverages, type LossAveragesState } from "./metrics-averages.js";
import { moduleTensors, type RunProgress } from "./run-state.js";
import type { TrainedModule } from "./trained-module.js";

/** Copying may take this share of a run's time; faster steps than that are not copied one by one. */
const COPYING_SHARE = 0.01;

/**
 * A copy, in memory, of factors and optimizer state at the newest step whose loss and gradients were seen to be finite.
 *
 * Once a loss is not finite, the factors that gave it are spoilt already: the update before made them so. A state of
 * those would diverge again at once, whatever the learning rate.
 */
export class LastGood {
  readonly #modules: readonly TrainedModule[];
  readonly #now: () => number;
  #copies: (Float32Array | Uint32Array)[] | null = null;
  #step = 0;
  #averages: LossAveragesState | null = null;
  #takenAtMs = 0;
  /** The shortest time a copy took; null before one was measured. (The first one also allocates.) */
  #copyMs: number | null = null;

  /** @param now - a clock in milliseconds */
  constructor(modules: readonly TrainedModule[], now: () => number = () => performance.now()) {
    this.#modules = modules;
    this.#now = now;
  }

  /** Remembers the run as it is now, unless the last copy is so young that copies would slow the run down. */
  remember(progress: RunProgress): void {
    const startMs = this.#now();
    const sinceMs = startMs - this.#takenAtMs;
    if (this.#copyMs !== null && sinceMs * COPYING_SHARE < this.#copyMs) return;
    const arrays = this.#arrays();
    const isFirst = this.#copies === null;
    if (this.#copies === null) this.#copies = arrays.map((array) => array.slice());
    else for (const [index, copy] of this.#copies.entries()) copy.set(arrays[index]!);
    this.#step = progress.step;
    this.#averages = progress.averages.state;
    this.#takenAtMs = this.#now();
    if (!isFirst)
      this.#copyMs = Math.min(this.#copyMs ?? Number.POSITIVE_INFINITY, this.#takenAtMs - startMs);
  }

  /** Makes the run what it was when it was remembered last. */
  restore(progress: RunProgress): void {
    if (this.#copies === null || this.#averages === null) return;
    const arrays = this.#arrays();
    for (const [index, copy] of this.#copies.entries()) arrays[index]!.set(copy);
    progress.step = this.#step;
    progress.averages = new LossAverages(this.#averages);
  }

  #arrays(): (Float32Array | Uint32Array)[] {
    return moduleTensors(this.#modules).map(({ data }) => data);
  }
}
