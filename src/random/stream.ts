/**
 * Keyed random streams.
 *
 * Everything random in dylora comes from a stream that is named by a seed and a key, for example
 * `randomStream(seed, "noise", step, microStep, sample)`. A stream carries no state from one step to the next, so a
 * resumed run needs no generator state, a worker can draw the same noise as the main thread, and adding one more
 * random decision (another purpose in the key) changes none of the others.
 */
import { createHash } from "node:crypto";
import { xoroshiro128plusFromState } from "pure-rand/generator/xoroshiro128plus";
import type { RandomGenerator } from "pure-rand/types/RandomGenerator";
import { internalError } from "../errors.js";

export type RandomKey = string | number;

const TWO_POW_32 = 2 ** 32;
const TWO_POW_MINUS_31 = 2 ** -31;
const TWO_POW_MINUS_53 = 2 ** -53;

/** A sequence of random numbers; the same seed and key always give the same sequence, on every platform. */
export class RandomStream {
  readonly #generator: RandomGenerator;
  /** The second normal of the last accepted pair; NaN when there is none. */
  #spareNormal = Number.NaN;

  constructor(generator: RandomGenerator) {
    this.#generator = generator;
  }

  /** Uniform in [0, 1): a multiple of 2^-53. */
  uniform(): number {
    // The top bits of two draws: the lowest bit of a xoroshiro128+ output follows a linear recurrence.
    const high = this.#generator.next() >>> 5;
    const low = this.#generator.next() >>> 6;
    return (high * 2 ** 26 + low) * TWO_POW_MINUS_53;
  }

  /** Uniform in the integers 0 to `n - 1`, without bias. `n` is an integer from 1 to 2^32. */
  int(n: number): number {
    if (!(Number.isInteger(n) && n >= 1 && n <= TWO_POW_32)) {
      throw internalError(`RandomStream.int: n must be an integer from 1 to 2^32, got ${n}`);
    }
    // n equal intervals of 32-bit values; a draw in the remainder above them is thrown away.
    const interval = Math.floor(TWO_POW_32 / n);
    const limit = interval * n;
    for (;;) {
      const draw = this.#generator.next() >>> 0;
      if (draw < limit) return Math.floor(draw / interval);
    }
  }

  /** Standard normal: mean 0, variance 1. */
  normal(): number {
    const spare = this.#spareNormal;
    if (!Number.isNaN(spare)) {
      this.#spareNormal = Number.NaN;
      return spare;
    }
    // Marsaglia's polar method: of the transcendental functions it needs only `log`, which V8 computes with the same portable
    // code (fdlibm) everywhere; its `sin` and `cos` changed in the last bit from one version to another.
    for (;;) {
      const x = this.#generator.next() * TWO_POW_MINUS_31;
      const y = this.#generator.next() * TWO_POW_MINUS_31;
      const r2 = x * x + y * y;
      if (r2 < 1 && r2 > 0) {
        const scale = Math.sqrt((-2 * Math.log(r2)) / r2);
        this.#spareNormal = y * scale;
        return x * scale;
      }
    }
  }

  /** Fills `out` with standard normals (the same numbers as `out.length` calls of `normal`) and returns it. */
  fillNormal(out: Float32Array): Float32Array {
    for (let i = 0; i < out.length; i++) out[i] = this.normal();
    return out;
  }

  /** A new array with the items in uniformly random order (Fisher-Yates); `items` stays as it is. */
  shuffle<T>(items: readonly T[]): T[] {
    const shuffled = items.slice();
    for (let last = shuffled.length - 1; last > 0; last--) {
      const other = this.int(last + 1);
      const item = shuffled[last] as T;
      shuffled[last] = shuffled[other] as T;
      shuffled[other] = item;
    }
    return shuffled;
  }
}

/**
 * The stream named by `seed` and `key`.
 *
 * The 128-bit state of the generator (xoroshiro128+) is the first half of a SHA-256 over seed and key, so streams
 * of neighbouring seeds, steps or samples share nothing. `1` and `"1"` are different keys, and so are `("a", "bc")` and
 * `("ab", "c")`.
 *
 * @param seed - any finite number (the user's `--seed`)
 * @param key - purpose first, then the indices: `"noise", step, microStep, sample`
 */
export function randomStream(seed: number, ...key: RandomKey[]): RandomStream {
  for (const part of [seed, ...key]) {
    if (typeof part === "number" && !Number.isFinite(part)) {
      throw internalError(`randomStream: seed and key parts must be finite, got ${part}`);
    }
  }
  const digest = createHash("sha256")
    .update(JSON.stringify([seed, ...key]))
    .digest();
  const state = [0, 4, 8, 12].map((offset) => digest.readInt32LE(offset));
  return new RandomStream(xoroshiro128plusFromState(state));
}
