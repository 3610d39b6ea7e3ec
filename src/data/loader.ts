/**
 * Loads batches ahead of their use.
 */
import { availableParallelism } from "node:os";
import pLimit from "p-limit";

export interface LoaderOptions<S, T> {
  /** The samples of a batch; pure, for example `sampler.batchAt`. */
  batchAt(batchIndex: number): readonly S[];
  /** Loads one sample: decodes an image, or reads a cache. */
  load(sample: S, signal: AbortSignal): Promise<T>;
  /** First batch to deliver; default 0. */
  firstBatch?: number;
  /** The batch after the last one. */
  endBatch: number;
  /**
   * Samples loaded at once (`--max_data_loader_n_workers`); default `defaultWorkers()`. 0: nothing is loaded ahead, a
   * batch is loaded when it is asked for, one sample after the other.
   */
  workers?: number;
  /** Batches loaded ahead; default: enough to give every worker two samples, at least 2. */
  prefetchBatches?: number;
  signal?: AbortSignal;
}

export interface LoadedBatch<S, T> {
  readonly index: number;
  readonly samples: readonly S[];
  /** What `load` returned, in the order of `samples`. */
  readonly data: readonly T[];
}

/** The smaller of 8 and the number of cores less one, which stays free for the training itself. */
export function defaultWorkers(): number {
  return Math.min(8, availableParallelism() - 1);
}

/**
 * Starts loading batches and returns them in order.
 *
 * The order and content of the batches do not depend on `workers`. An error of `load` surfaces at the batch that
 * needed the sample, after all batches before it have been delivered, and ends the loader. When `signal` aborts, the
 * next `next()` throws its reason as soon as the loads under way have ended. Leaving a `for await` loop early (or
 * calling `return()`) stops the loader and waits for them too, so that nothing runs on behind the caller's back.
 *
 * Memory: up to `prefetchBatches` batches beside the one that was delivered last.
 */
export function createLoader<S, T>(options: LoaderOptions<S, T>): AsyncIterableIterator<LoadedBatch<S, T>> {
  return new BatchLoader(options);
}

class BatchLoader<S, T> implements AsyncIterableIterator<LoadedBatch<S, T>> {
  readonly #options: LoaderOptions<S, T>;
  readonly #workers: number;
  readonly #limit: ReturnType<typeof pLimit>;
  readonly #stop = new AbortController();
  readonly #queue: Promise<LoadedBatch<S, T>>[] = [];
  readonly #underWay = new Set<Promise<T>>();
  readonly #onAbort = () => this.#stop.abort(this.#options.signal?.reason);
  #nextBatch: number;

  constructor(options: LoaderOptions<S, T>) {
    this.#options = options;
    this.#workers = options.workers ?? defaultWorkers();
    this.#limit = pLimit(Math.max(this.#workers, 1));
    this.#nextBatch = options.firstBatch ?? 0;
    if (options.signal?.aborted) this.#onAbort();
    else options.signal?.addEventListener("abort", this.#onAbort, { once: true });
    if (this.#workers > 0) this.#fill();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<LoadedBatch<S, T>, undefined>> {
    try {
      if (this.#queue.length === 0 && this.#nextBatch < this.#options.endBatch) this.#startBatch();
      const batch = this.#queue.shift();
      if (batch === undefined) {
        this.#options.signal?.throwIfAborted();
        await this.#close();
        return { done: true, value: undefined };
      }
      const loaded = await batch;
      this.#options.signal?.throwIfAborted();
      if (this.#workers > 0) this.#fill();
      return { done: false, value: loaded };
    } catch (error) {
      await this.#close();
      throw error;
    }
  }

  async return(): Promise<IteratorResult<LoadedBatch<S, T>, undefined>> {
    await this.#close();
    return { done: true, value: undefined };
  }

  /** Tops up the queue. All batches have the size of the first. */
  #fill(): void {
    let ahead = this.#options.prefetchBatches;
    while (this.#nextBatch < this.#options.endBatch) {
      if (ahead !== undefined && this.#queue.length >= Math.max(ahead, 1)) return;
      const batchSize = this.#startBatch();
      ahead ??= Math.max(2, Math.ceil((2 * this.#workers) / batchSize));
    }
  }

  #startBatch(): number {
    const index = this.#nextBatch++;
    const samples = this.#options.batchAt(index);
    const loads = samples.map((sample) =>
      this.#limit(() => {
        this.#stop.signal.throwIfAborted();
        return this.#options.load(sample, this.#stop.signal);
      }),
    );
    for (const load of loads) {
      this.#underWay.add(load);
      const settled = () => this.#underWay.delete(load);
      load.then(settled, settled);
    }
    const batch = Promise.all(loads).then((data) => ({ index, samples, data }));
    // The error is delivered by `next()`; until then nobody listens, which Node would take for an unhandled
    // rejection.
    batch.catch(() => {});
    this.#queue.push(batch);
    return Math.max(samples.length, 1);
  }

  async #close(): Promise<void> {
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
    this.#stop.abort();
    this.#nextBatch = this.#options.endBatch;
    this.#queue.length = 0;
    // Queued loads end at once, since `stop` is set; the ones that run cannot be cut short (sharp has no way to).
    await Promise.allSettled(this.#underWay);
  }
}
