/** A long matrix that is computed a strip at a time, as it is to be stored. */
import { GROUP, type StoredFormat, storedBytes } from "./conversion-kernels.js";
import { conversion, workspaceBytes } from "./kernels.js";
import { roundUp, STRIP_COLUMNS, STRIP_STRIDE } from "./layout.js";
import type { ElementType } from "./product-kernels.js";
import { MAX_COPIED_BYTES } from "./strip-source.js";

/** The shape of a result, `[rows, N]`, and what its numbers are stored as. */
export interface ResultShape {
  readonly rows: number;
  /** `N` */
  readonly length: number;
  readonly format: StoredFormat;
  /** Whether element (i, j) is at `j · rows + i`. */
  readonly byColumns: boolean;
}

export class StripResult {
  readonly #shape: ResultShape;
  readonly #room: number;
  /** Null where it is put together in the workspace. */
  readonly #bytes: Uint8Array<ArrayBuffer> | null;

  /** @param room - address of `resultRoom(shape)` free bytes in the workspace */
  constructor(shape: ResultShape, room: number) {
    this.#shape = shape;
    this.#room = room;
    this.#bytes = isWhole(shape) ? null : new Uint8Array(sizeOf(shape));
  }

  /**
   * Where the strips begin, in the order in which they must be stored. What is written beyond the end of a row, the next row overwrites: by
   * rows, its beginning is in the first strip.
   */
  begins(): number[] {
    const { length, byColumns } = this.#shape;
    const begins = Array.from({ length: Math.ceil(length / STRIP_COLUMNS) }, (_, i) => i * STRIP_COLUMNS);
    return byColumns ? begins : begins.reverse();
  }

  /** Takes the columns `[begin, begin + columns)`, which are in a strip at the address `at`. */
  store(begin: number, columns: number, at: number, type: ElementType): void {
    const { rows, length, format, byColumns } = this.#shape;
    const size = storedBytes(format);
    const rowBytes = STRIP_STRIDE * type.bytes;
    const spanBytes = roundUp(columns, GROUP) * type.bytes;
    const columnBytes = byColumns ? rows * size : size;
    const target = this.#room + (this.#bytes === null ? begin * columnBytes : 0);
    if (byColumns) {
      const padded = roundUp(rows, GROUP);
      const last = target + (padded - GROUP) * size;
      const compress = conversion("compressColumns", format, type);
      compress(at, at + padded * rowBytes, rowBytes, spanBytes, last, columnBytes);
    } else {
      const targetRowBytes = (this.#bytes === null ? length : STRIP_COLUMNS) * size;
      const compress = conversion("compressRows", format, type);
      compress(at, at + rows * rowBytes, rowBytes, spanBytes, target, targetRowBytes);
    }
    if (this.#bytes !== null) this.#takeStrip(this.#bytes, begin, columns);
  }

  /** The whole result, in memory of its own. */
  bytes(): Uint8Array<ArrayBuffer> {
    const end = this.#room + sizeOf(this.#shape);
    return this.#bytes ?? (workspaceBytes().slice(this.#room, end) as Uint8Array<ArrayBuffer>);
  }

  #takeStrip(result: Uint8Array, begin: number, columns: number): void {
    const { rows, length, format, byColumns } = this.#shape;
    const size = storedBytes(format);
    const [pieces, pieceBytes] = byColumns ? [1, columns * rows * size] : [rows, columns * size];
    const first = byColumns ? begin * rows * size : begin * size;
    for (let i = 0; i < pieces; i++) {
      const from = this.#room + i * STRIP_COLUMNS * size;
      result.set(workspaceBytes().subarray(from, from + pieceBytes), first + i * length * size);
    }
  }
}

/** Bytes for what of a result is in the workspace, and for what is written beyond its end. */
export function resultRoom(shape: ResultShape): number {
  const { rows, format } = shape;
  const size = storedBytes(format);
  return (isWhole(shape) ? sizeOf(shape) : STRIP_COLUMNS * rows * size) + GROUP * roundUp(rows, GROUP) * size;
}

/** A result is put together in the workspace, unless that would leave it large. */
function isWhole(shape: ResultShape): boolean {
  return sizeOf(shape) <= MAX_COPIED_BYTES;
}

function sizeOf({ rows, length, format }: ResultShape): number {
  return rows * length * storedBytes(format);
}
