/** Runs module jobs on several threads, or on this one where threads would cost more than they bring. */
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { internalError } from "../../errors.js";
import { fromThread, type JobReply, type JobRequest, transferables } from "./job-messages.js";
import type { JobInput, JobName, JobResult } from "./module-jobs.js";

/** Below this many bytes of factors, starting threads (some 100 ms each) takes longer than the work. */
const MIN_THREAD_BYTES = 32 << 20;

/** More threads would wait for the disk and for memory. */
const MAX_THREADS = 8;

/** Compiled beside this file. Run from source, as the unit tests do, there is only this thread. */
const THREAD_FILE = new URL("./job-thread.js", import.meta.url);
const CAN_START_THREADS = import.meta.url.endsWith(".js");

/**
 * Of the nursery of a thread, where V8 would take 16 or more. Its objects are few and small, but the matrices of a module hang on
 * them: 50 MB of those would gather before they are collected.
 */
const NURSERY_MB = 2;

interface Waiting {
  resolve(result: never): void;
  reject(error: unknown): void;
}

/** Close it in the end, or hold it with `await using`. */
export class JobPool {
  readonly #threads: Worker[];
  /** Jobs under way, by thread. */
  readonly #load: number[];
  readonly #waiting = new Map<number, Waiting>();
  #nextTicket = 0;
  /** Why no job can run any more. */
  #failure: { readonly error: unknown } | null = null;

  /** @param workBytes - size of all factors that will be worked on */
  constructor(workBytes: number) {
    const threads =
      CAN_START_THREADS && workBytes >= MIN_THREAD_BYTES ? Math.min(availableParallelism(), MAX_THREADS) : 1;
    this.#threads = threads === 1 ? [] : Array.from({ length: threads }, () => this.#startThread());
    this.#load = this.#threads.map(() => 0);
  }

  /** How many jobs keep it busy. */
  get concurrency(): number {
    return this.#threads.length === 0 ? 1 : 2 * this.#threads.length;
  }

  /** Runs one job. The memory of arrays in `input` is gone afterwards, unless it is shared. */
  async run<Name extends JobName>(name: Name, input: JobInput<Name>): Promise<JobResult<Name>> {
    if (this.#threads.length === 0) {
      // Elsewhere the arithmetic is never loaded on this thread.
      const { MODULE_JOBS } = await import("./module-jobs.js");
      return (MODULE_JOBS[name] as (input: JobInput<Name>) => JobResult<Name>)(input);
    }
    if (this.#failure !== null) throw this.#failure.error;
    const index = this.#load.indexOf(Math.min(...this.#load));
    this.#load[index]!++;
    try {
      return await this.#ask(this.#threads[index]!, name, input);
    } finally {
      this.#load[index]!--;
    }
  }

  /** Ends the threads. Jobs under way are given up. */
  async close(): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.terminate()));
    this.#failAll(internalError("the job pool was closed"));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #startThread(): Worker {
    const thread = new Worker(THREAD_FILE, { resourceLimits: { maxYoungGenerationSizeMb: NURSERY_MB } });
    thread.on("message", (reply: JobReply) => {
      const waiting = this.#waiting.get(reply.ticket);
      this.#waiting.delete(reply.ticket);
      if ("error" in reply) waiting?.reject(fromThread(reply.error));
      else waiting?.resolve(reply.result as never);
    });
    thread.on("error", (error) => this.#failAll(error));
    return thread;
  }

  #ask<Name extends JobName>(thread: Worker, name: Name, input: JobInput<Name>): Promise<JobResult<Name>> {
    const ticket = this.#nextTicket++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(ticket, { resolve, reject });
      thread.postMessage({ ticket, name, input } satisfies JobRequest, transferables(input));
    });
  }

  #failAll(error: unknown): void {
    this.#failure ??= { error };
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}
