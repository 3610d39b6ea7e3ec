/**
 * SHA-256 of several streams on other threads.
 *
 * One thread hashes some 250 MB/s on a CPU without SHA instructions, less than a disk writes. The streams of a pool are
 * spread over its threads; each stream keeps the order of its pieces.
 */
import { Worker } from "node:worker_threads";
import { internalError } from "../errors.js";
import type { StreamHash } from "./stream-hash.js";

interface Request {
  readonly ticket: number;
  readonly stream: number;
  /** Null asks for the digest. */
  readonly bytes: Uint8Array | null;
}

interface Reply {
  readonly ticket: number;
  readonly digest: string | null;
}

/**
 * What a thread of the pool runs. It is sent as text (a file of its own would have to be found both in `dist` and, by the
 * tests, in `src`), so it may use nothing from outside; `load` is the thread's own `require`.
 */
function hashThread(load: NodeJS.Require): void {
  const { parentPort } = load("node:worker_threads") as typeof import("node:worker_threads");
  const { createHash } = load("node:crypto") as typeof import("node:crypto");
  const hashes = new Map<number, ReturnType<typeof createHash>>();
  parentPort!.on("message", ({ ticket, stream, bytes }: Request) => {
    const hash = hashes.get(stream) ?? createHash("sha256");
    if (bytes === null) {
      hashes.delete(stream);
      parentPort!.postMessage({ ticket, digest: hash.digest("hex") });
    } else {
      hashes.set(stream, hash);
      hash.update(bytes);
      parentPort!.postMessage({ ticket, digest: null });
    }
  });
}

interface Waiting {
  resolve(digest: string | null): void;
  reject(error: unknown): void;
}

export class HashPool {
  readonly #threads: Worker[];
  readonly #waiting = new Map<number, Waiting>();
  #nextTicket = 0;
  #nextStream = 0;

  /** Starts threads (some 50 ms, during which pieces already queue up). Close the pool in the end. */
  constructor(threadCount: number) {
    this.#threads = Array.from({ length: threadCount }, () => {
      const thread = new Worker(`(${hashThread.toString()})(require)`, { eval: true });
      thread.on("message", ({ ticket, digest }: Reply) => {
        this.#waiting.get(ticket)?.resolve(digest);
        this.#waiting.delete(ticket);
      });
      thread.on("error", (error) => this.#failAll(error));
      return thread;
    });
  }

  /** A new stream. Pieces in shared memory are hashed without a copy; do not change them until `update` resolves. */
  open(): StreamHash {
    const stream = this.#nextStream++;
    const thread = this.#threads[stream % this.#threads.length]!;
    return {
      update: async (bytes) => {
        await this.#ask(thread, stream, bytes);
      },
      digest: async () => (await this.#ask(thread, stream, null)) as string,
    };
  }

  /** Ends the threads. Pieces under way are given up. */
  async close(): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.terminate()));
    this.#failAll(internalError("the hash pool was closed"));
  }

  #ask(thread: Worker, stream: number, bytes: Uint8Array | null): Promise<string | null> {
    const ticket = this.#nextTicket++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(ticket, { resolve, reject });
      thread.postMessage({ ticket, stream, bytes } satisfies Request);
    });
  }

  #failAll(error: unknown): void {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}
