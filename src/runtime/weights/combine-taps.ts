/** Taps of a kernel, 3x3. */
const TAPS = 9;

/** Kernels that are worked on at once, so that what is written of them stays in the cache. */
const BLOCK = 512;

/**
 * Weighted sums of the taps of every kernel, added up in float64.
 *
 * @param kernels - `[O, I, 3, 3]`
 * @param matrix - `[K][9]`
 * @returns `[K, O, I]`
 */
export function combineTaps(
  kernels: Float32Array,
  matrix: readonly (readonly number[])[],
): Float32Array<ArrayBuffer> {
  const count = kernels.length / TAPS;
  const result = new Float32Array(matrix.length * count);
  for (let first = 0; first < count; first += BLOCK) {
    const last = Math.min(first + BLOCK, count);
    for (const [place, weights] of matrix.entries()) {
      const [w0, w1, w2, w3, w4, w5, w6, w7, w8] = weights as [
        ...[number, number, number],
        ...[number, number, number],
        ...[number, number, number],
      ];
      for (let kernel = first, tap = first * TAPS, write = place * count + first; kernel < last; kernel++) {
        result[write++] =
          w0 * kernels[tap]! +
          w1 * kernels[tap + 1]! +
          w2 * kernels[tap + 2]! +
          w3 * kernels[tap + 3]! +
          w4 * kernels[tap + 4]! +
          w5 * kernels[tap + 5]! +
          w6 * kernels[tap + 6]! +
          w7 * kernels[tap + 7]! +
          w8 * kernels[tap + 8]!;
        tap += TAPS;
      }
    }
  }
  return result;
}
