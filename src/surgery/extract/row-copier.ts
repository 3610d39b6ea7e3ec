/**
 * The inner loop of extraction: the first bytes of every row of a matrix, 16 at a time.
 *
 * A loop over the elements in JavaScript copies 0.3 to 0.8 GB/s on the machine where this was measured, and
 * `TypedArray.set` for every row 0.05 GB/s where rows are short; this copies several GB/s for all lengths.
 */

/** Bytes that one step of the loop moves; it may read and write that many beyond the end of what it was asked for. */
const STEP_BYTES = 16;
/** Rows are gathered here before they go to their target: small enough for the first-level cache. */
const STAGE_BYTES = 16 << 10;
const PAGE_BYTES = 64 << 10;

/**
 * A WebAssembly module with one function over an imported memory:
 * `copy(source, sourceRowBytes, target, targetRowBytes, rowCount)`.
 *
 * Each row is copied in whole steps. What a step writes beyond the row is overwritten by the next row, or by nobody: it
 * lies behind the stage.
 */
// biome-ignore format: one instruction a line
const MODULE = Uint8Array.of(
  0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00, // "\0asm", version 1
  0x01, 0x09, 0x01, 0x60, 0x05, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x00, // type 0: (i32, i32, i32, i32, i32) -> ()
  0x02, 0x08, 0x01, 0x01, 0x6d, 0x01, 0x6d, 0x02, 0x00, 0x01, // import "m" "m": memory of at least one page
  0x03, 0x02, 0x01, 0x00, // function 0 has type 0
  0x07, 0x08, 0x01, 0x04, 0x63, 0x6f, 0x70, 0x79, 0x00, 0x00, // export "copy": function 0
  0x0a, 0x4a, 0x01, 0x48, // code: one body of 72 bytes
  0x01, 0x02, 0x7f, // locals 5 (from), 6 (end): i32
  0x03, 0x40, // loop (rows)
  0x20, 0x00, 0x21, 0x05, //   from = source
  0x20, 0x02, 0x20, 0x03, 0x6a, 0x21, 0x06, //   end = target + targetRowBytes
  0x03, 0x40, //   loop (steps)
  0x20, 0x02, 0x20, 0x05, 0xfd, 0x00, 0x00, 0x00, //     v128.load(from)
  0xfd, 0x0b, 0x00, 0x00, //     v128.store(target)
  0x20, 0x05, 0x41, 0x10, 0x6a, 0x21, 0x05, //     from += 16
  0x20, 0x02, 0x41, 0x10, 0x6a, 0x22, 0x02, //     target += 16
  0x20, 0x06, 0x49, 0x0d, 0x00, //     while target < end
  0x0b, //   end
  0x20, 0x06, 0x21, 0x02, //   target = end
  0x20, 0x00, 0x20, 0x01, 0x6a, 0x21, 0x00, //   source += sourceRowBytes
  0x20, 0x04, 0x41, 0x01, 0x6b, 0x22, 0x04, //   rowCount -= 1
  0x0d, 0x00, //   while rowCount
  0x0b, 0x0b, // end, end
);

/** The part that is used here; Node.js' type declarations have none of it. */
declare const WebAssembly: {
  readonly Memory: new (descriptor: { initial: number }) => { readonly buffer: ArrayBuffer };
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (
    module: object,
    imports: { m: { m: object } },
  ) => { readonly exports: { readonly copy: CopyFunction } };
};

type CopyFunction = (
  source: number,
  sourceRowBytes: number,
  target: number,
  targetRowBytes: number,
  rowCount: number,
) => void;

export class RowCopier {
  /** Where rows to be copied from are put: two areas, so that one can be filled while the other is in use. */
  readonly areas: readonly [Uint8Array, Uint8Array];
  readonly #stage: Uint8Array;
  readonly #copy: CopyFunction;

  constructor(areaBytes: number) {
    const sizes = [STAGE_BYTES, areaBytes, areaBytes].map((size) => size + STEP_BYTES);
    const total = sizes.reduce((sum, size) => sum + size, 0);
    const memory = new WebAssembly.Memory({ initial: Math.ceil(total / PAGE_BYTES) });
    const [stage, first, second] = sizes.map((size, i) => {
      const begin = sizes.slice(0, i).reduce((sum, before) => sum + before, 0);
      return new Uint8Array(memory.buffer, begin, size - STEP_BYTES);
    }) as [Uint8Array, Uint8Array, Uint8Array];
    this.#stage = stage;
    this.areas = [first, second];
    const instance = new WebAssembly.Instance(new WebAssembly.Module(MODULE), { m: { m: memory } });
    this.#copy = instance.exports.copy;
  }

  /**
   * Fills `target` with the first `targetRowBytes` of each row of `source`.
   *
   * @param source - a part of one of the areas: rows of `sourceRowBytes`, at least as many as `target` has
   * @param target - whole rows of `targetRowBytes`, anywhere in memory
   */
  copy(source: Uint8Array, sourceRowBytes: number, target: Uint8Array, targetRowBytes: number): void {
    const rowCount = target.length / targetRowBytes;
    if (sourceRowBytes === targetRowBytes) {
      target.set(source.subarray(0, target.length));
      return;
    }
    const rowsPerStage = Math.floor(this.#stage.length / targetRowBytes);
    if (rowsPerStage === 0) {
      for (let row = 0; row < rowCount; row++) {
        const from = row * sourceRowBytes;
        target.set(source.subarray(from, from + targetRowBytes), row * targetRowBytes);
      }
      return;
    }
    for (let row = 0; row < rowCount; row += rowsPerStage) {
      const rows = Math.min(rowsPerStage, rowCount - row);
      const from = source.byteOffset + row * sourceRowBytes;
      this.#copy(from, sourceRowBytes, this.#stage.byteOffset, targetRowBytes, rows);
      target.set(this.#stage.subarray(0, rows * targetRowBytes), row * targetRowBytes);
    }
  }
}
