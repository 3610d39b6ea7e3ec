/** The bootstrap's answer to "how many standard errors may a mean be off?". */
import { randomStream } from "../random/stream.js";

/** Resamples of so many values, the same for everything that is computed with them: results differ by values, not by luck. */
export class BootstrapT {
  readonly #count: number;
  readonly #pairs: number;
  readonly #seed: number;
  /** `pairs` times `count` indices, drawn with replacement, and as many standard normals; made when they are first needed. */
  #draws: { readonly indices: Uint32Array; readonly noise: Float32Array } | null = null;

  /** @param resamples - rounded up to an even number */
  constructor(count: number, resamples: number, seed: number) {
    this.#count = count;
    this.#pairs = Math.ceil(resamples / 2);
    this.#seed = seed;
  }

  /**
   * What |mean* - mean| / error* stays below with probability `confidence` over resamples: Hall's symmetric bootstrap-t.
   *
   * The resamples are smoothed: each value gets normal noise of variance s²/n, s² the variance of the values. That makes up for
   * what resampling loses, (n - 1)/n of the variance (Hesterberg 2004, "Unbiasing the bootstrap"), and of few values no resample
   * is near copies of a single one, whose standard error of almost nothing would lead the quantile. Every noise is used with
   * both signs, so that values of the other sign have the same quantile.
   *
   * @param values - as many as the constructor was told, not all equal
   * @param center - their mean
   * @param deviation - their standard deviation, s
   */
  critical(values: Float64Array, center: number, deviation: number, confidence: number): number {
    const count = this.#count;
    const { indices, noise } = this.#draw();
    const bandwidth = deviation / Math.sqrt(count);
    const absoluteT = new Float64Array(2 * this.#pairs);
    for (let pair = 0; pair < this.#pairs; pair++) {
      let [plus, minus, plusSquares, minusSquares] = [0, 0, 0, 0];
      for (let i = pair * count; i < (pair + 1) * count; i++) {
        const value = values[indices[i]!]! - center;
        const shift = bandwidth * noise[i]!;
        plus += value + shift;
        minus += value - shift;
        plusSquares += (value + shift) ** 2;
        minusSquares += (value - shift) ** 2;
      }
      absoluteT[2 * pair] = absoluteStudentT(plus, plusSquares, count);
      absoluteT[2 * pair + 1] = absoluteStudentT(minus, minusSquares, count);
    }
    absoluteT.sort();
    const position = Math.ceil(confidence * (absoluteT.length + 1));
    return absoluteT[Math.min(position, absoluteT.length) - 1]!;
  }

  #draw() {
    if (this.#draws === null) {
      const length = this.#pairs * this.#count;
      const stream = randomStream(this.#seed, "bootstrap");
      const indices = new Uint32Array(length);
      for (let i = 0; i < length; i++) indices[i] = stream.int(this.#count);
      const noise = randomStream(this.#seed, "bootstrap noise").fillNormal(new Float32Array(length));
      this.#draws = { indices, noise };
    }
    return this.#draws;
  }
}

/** |mean| / standard error of values with this sum and this sum of squares. */
function absoluteStudentT(sum: number, squares: number, count: number): number {
  const variance = (squares - (sum * sum) / count) / (count - 1);
  return Math.abs(sum) / Math.sqrt(variance * count);
}
