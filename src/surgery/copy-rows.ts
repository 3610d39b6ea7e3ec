/** The one inner loop of extraction: the first bytes of every row of a matrix. */

/** From here on, one call that copies a block beats a loop over its elements. */
const BLOCK_BYTES = 256;

/**
 * Fills `target` with the first `targetRowBytes` of each row of `source`.
 *
 * @param source - rows of `sourceRowBytes`, at least as many as `target` has
 * @param target - whole rows of `targetRowBytes`
 */
export function copyRowPrefixes(
  source: Uint8Array,
  sourceRowBytes: number,
  target: Uint8Array,
  targetRowBytes: number,
): void {
  if (sourceRowBytes === targetRowBytes) {
    target.set(source.subarray(0, target.length));
    return;
  }
  if (targetRowBytes >= BLOCK_BYTES) {
    for (let from = 0, to = 0; to < target.length; from += sourceRowBytes, to += targetRowBytes) {
      target.set(source.subarray(from, from + targetRowBytes), to);
    }
    return;
  }
  const lane = commonAlignment(source.byteOffset | target.byteOffset | sourceRowBytes | targetRowBytes);
  copyLanes(lanesOf(source, lane), sourceRowBytes / lane, lanesOf(target, lane), targetRowBytes / lane);
}

function copyLanes(
  source: Uint8Array | Uint16Array | Int32Array,
  sourceRow: number,
  target: Uint8Array | Uint16Array | Int32Array,
  targetRow: number,
): void {
  for (let from = 0, to = 0; to < target.length; from += sourceRow) {
    for (let i = 0; i < targetRow; i++) target[to++] = source[from + i]!;
  }
}

/** 4, 2 or 1: the largest element that divides all of the numbers that were or-ed together. */
function commonAlignment(bits: number): 1 | 2 | 4 {
  return (bits & 1) !== 0 ? 1 : (bits & 2) !== 0 ? 2 : 4;
}

function lanesOf(bytes: Uint8Array, lane: 1 | 2 | 4): Uint8Array | Uint16Array | Int32Array {
  const { buffer, byteOffset, length } = bytes;
  if (lane === 1) return bytes;
  const count = Math.floor(length / lane);
  return lane === 2 ? new Uint16Array(buffer, byteOffset, count) : new Int32Array(buffer, byteOffset, count);
}
