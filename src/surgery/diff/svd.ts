/** The largest singular values of a dense matrix, and its best factors, by a randomized range finder. */
import { transpose } from "../../adapter/index.js";
import { lqDecomposition } from "../../linalg/householder.js";
import { transposed, type Values } from "../../linalg/matrix.js";
import { productSvd, type TruncatedFactors } from "../../linalg/product-svd.js";
import { combineRows, crossProducts } from "../../linalg/strips.js";
import { randomStream } from "../../random/stream.js";

/** More directions than are asked for: the ones that count are then found almost surely. */
const OVERSAMPLING = 16;

/**
 * Each one squares what a direction's singular value is ahead of the noise. With two, the error of the approximation is within
 * a percent of the best one's even where the values fall slowly.
 */
const POWER_ITERATIONS = 2;

export interface LeadingSvd {
  /** Descending; somewhat more than were asked for, where the matrix has them. */
  readonly singularValues: Float64Array;
  /** Squared norm of what the `rank` largest of them leave out. */
  lostEnergy(rank: number): number;
  /** Factors of up to the rank that was asked for: `down` `[rank, columns]`, `upT` `[rank, rows]`. */
  truncate(rank: number): TruncatedFactors;
}

/**
 * Finds the `rank` largest singular values of `a`. Exact, up to rounding, where the matrix has no more of them than that, and
 * where `rank` is near its smaller side.
 *
 * The same key gives the same numbers, on every machine.
 *
 * @param a - `[rows, columns]`, finite
 * @param key - names the random directions
 * @see Halko, Martinsson & Tropp 2011 (SIAM Review 53, 217-288), algorithm 4.4
 */
export function leadingSvd(
  a: Float32Array,
  rows: number,
  columns: number,
  rank: number,
  key: string,
): LeadingSvd {
  // Fewer and longer rows suit the processor's cache.
  if (rows > columns) {
    const turned = leadingSvd(transpose(a, rows, columns), columns, rows, rank, key);
    return {
      ...turned,
      truncate: (count) => {
        const { down, upT } = turned.truncate(count);
        return { down: upT, upT: down };
      },
    };
  }
  const count = Math.min(rank + OVERSAMPLING, rows);
  const random = randomStream(0, "diff", key);
  const directions = Float64Array.from({ length: count * rows }, () => random.normal());
  // The rows of q span the row space of `a`, its weaker directions less and less.
  let q = orthonormalRows(combineRows(directions, count, a, rows), count);
  for (let i = 0; count < rows && i < POWER_ITERATIONS; i++) {
    const back = orthonormalRows(projected(a, rows, q, count), count);
    q = orthonormalRows(combineRows(back, count, a, rows), count);
  }
  // a ≈ (a qᵀ) q
  const upT = projected(a, rows, q, count);
  const svd = productSvd({ down: q, upT }, count);
  // Rows of q are orthonormal: the norm of the projection is the norm of what they see of `a`.
  const unseen = Math.max(0, squaredNorm(a) - squaredNorm(upT));
  return {
    singularValues: svd.singularValues,
    lostEnergy: (wanted) => unseen + squaredNorm(svd.singularValues.subarray(wanted)),
    truncate: (wanted) => svd.truncate(wanted),
  };
}

function squaredNorm(values: Values): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]! * values[i]!;
  return sum;
}

/** `q aᵀ`, `[count, rows]`: computed the other way round, so that the short matrix stays in the processor's cache. */
function projected(a: Float32Array, rows: number, q: Float64Array, count: number): Float64Array {
  return transposed(crossProducts(a, rows, q, count), rows, count);
}

function orthonormalRows(x: Float64Array, rows: number): Float64Array {
  return lqDecomposition(x, rows, true).q!;
}
