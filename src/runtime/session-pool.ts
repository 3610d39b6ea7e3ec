/** Sessions for several sizes, kept for the next time as long as there is memory for them. */

import { totalmem } from "node:os";
import { freeMemoryBytes } from "./free-memory.js";

/** Share of the machine's memory that kept sessions leave free: for the system, the page cache, and what runs beside. */
const FREE_SHARE = 0.1;

/** Bytes of memory that kept sessions leave free. */
export function reservedBytes(): number {
  return FREE_SHARE * totalmem();
}

export interface SessionPoolOptions {
  /** Memory that may still be taken; default: what the system says, less a tenth of its memory. */
  freeBytes?: () => number;
  /** Most sessions that are kept; default: any number. */
  most?: number;
}

interface Releasable {
  release(): Promise<void>;
}

interface Entry<S> {
  readonly session: Promise<S>;
  users: number;
}

/**
 * Makes sessions when they are first needed and keeps them. Where a new one does not fit into the memory that is free,
 * those that were used longest ago are released first; one session can always be made.
 *
 * Which sessions are kept never changes a result: a session that is made again computes the same numbers.
 */
export class SessionPool<S extends Releasable> {
  readonly #freeBytes: () => number;
  readonly #most: number;
  /** In the order of their last use. */
  readonly #entries = new Map<string, Entry<S>>();
  #createdCount = 0;

  constructor(options: SessionPoolOptions = {}) {
    this.#freeBytes = options.freeBytes ?? (() => freeMemoryBytes() - reservedBytes());
    this.#most = options.most ?? Number.POSITIVE_INFINITY;
  }

  /** Sessions that are there now, the one that was used longest ago first. */
  get keys(): readonly string[] {
    return [...this.#entries.keys()];
  }

  /** Sessions made so far, those that were made again included. */
  get createdCount(): number {
    return this.#createdCount;
  }

  /**
   * Runs `work` with a session, which is not released meanwhile.
   *
   * @param open - what the session will need, and how to make it; called only if it is not there
   */
  async use<T>(
    key: string,
    open: () => { readonly sizeBytes: number; create(): Promise<S> },
    work: (session: S) => T | Promise<T>,
  ): Promise<T> {
    const entry = this.#entries.get(key) ?? this.#open(open);
    entry.users++;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    try {
      let session: S;
      try {
        session = await entry.session;
      } catch (error) {
        // One that cannot be made is none to release; the next call tries again.
        if (this.#entries.get(key) === entry) this.#entries.delete(key);
        throw error;
      }
      return await work(session);
    } finally {
      entry.users--;
    }
  }

  /** Ends all sessions. */
  async release(): Promise<void> {
    const entries = [...this.#entries.values()];
    this.#entries.clear();
    for (const { session } of entries) await (await session).release();
  }

  #open(open: () => { readonly sizeBytes: number; create(): Promise<S> }): Entry<S> {
    this.#createdCount++;
    const { sizeBytes, create } = open();
    const session = this.#makeRoom(sizeBytes).then(create);
    return { session, users: 0 };
  }

  async #makeRoom(sizeBytes: number): Promise<void> {
    for (const [key, { session, users }] of [...this.#entries]) {
      if (this.#entries.size < this.#most && this.#freeBytes() >= sizeBytes) return;
      if (users > 0) continue;
      this.#entries.delete(key);
      await (await session).release();
    }
  }
}
