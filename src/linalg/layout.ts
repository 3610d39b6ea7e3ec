/** How matrices lie in the workspace. */

/** Of float64, in which lengths and addresses are counted unless something else is said. */
export const ELEMENT_BYTES = 8;
/** Of float32. */
export const SINGLE_BYTES = 4;
export const VECTOR_BYTES = 16;

/** Every length is a multiple of it: the kernels take four vectors of two float64 at a time. */
export const LANES = 8;

/** Columns of a long matrix that are worked on at once: with 128 rows they stay in a second-level cache. */
export const STRIP_COLUMNS = 256;

/**
 * Distance between rows: at least `columns`, and no power of two, which would put all rows on the same few lines of a cache.
 *
 * @returns elements
 */
export function rowStride(columns: number): number {
  return roundUp(columns, LANES) + LANES;
}

/** Distance between rows of a small matrix, which stays in the cache as a whole. */
export function squareStride(columns: number): number {
  return roundUp(columns, LANES);
}

export function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}

/** Distance between the rows of a strip, in elements of whichever type. */
export const STRIP_STRIDE = rowStride(STRIP_COLUMNS);
