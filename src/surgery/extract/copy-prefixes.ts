/** One pass over a parent: every tensor is read once, and each copy takes its prefix of it. */
import type { Adapter } from "../../adapter/index.js";
import { throwIfAborted } from "../../io/index.js";
import { elementBytes, type SafetensorsWriter } from "../../safetensors/index.js";
import { type CopyDtype, castValues } from "./cast-values.js";
import type { TensorPrefix } from "./copy-contents.js";
import type { ExtractFile } from "./copy-files.js";
import { RowCopier } from "./row-copier.js";

/** How much of a tensor is in memory at once (twice: the next part is read meanwhile), unless a single row is larger. */
const CHUNK_BYTES = 2 << 20;

export interface CopyOptions {
  /** Called after each tensor of the parent. */
  readonly onProgress?: (progress: { readonly doneBytes: number; readonly totalBytes: number }) => void;
  readonly signal?: AbortSignal;
  /** What an interruption says it interrupted. */
  readonly subject: string;
}

/** One file that is being written: what comes next in it. */
export class CopyInProgress {
  readonly output: ExtractFile;
  readonly writer: SafetensorsWriter<string | null>;
  #next = 0;

  constructor(output: ExtractFile, writer: SafetensorsWriter<string | null>) {
    this.output = output;
    this.writer = writer;
  }

  /** Writes the small tensors (alphas) up to the next one that comes from the parent. */
  async writeConstants(): Promise<void> {
    const { layout, contents } = this.output;
    for (;;) {
      const tensor = layout.tensors[this.#next];
      const content = tensor && contents.get(tensor.name);
      if (!(content instanceof Uint8Array)) return;
      await this.writer.write(content);
      this.#next++;
    }
  }

  /** The next tensor, which is a prefix of the parent's tensor of that name; null behind the last one. */
  nextPrefix(): TensorPrefix | null {
    const tensor = this.output.layout.tensors[this.#next];
    return tensor === undefined ? null : (this.output.contents.get(tensor.name) as TensorPrefix);
  }

  /** Writes this copy's part of some of the parent's rows. */
  async writeRows(prefix: TensorPrefix, rows: ParentRows, copier: RowCopier): Promise<void> {
    const { bytes, firstRow, rowCount } = rows;
    const parentRowBytes = bytes.length / rowCount;
    const end = Math.min(rowCount, prefix.rows - firstRow);
    if (end <= 0) return;
    if (prefix.rowBytes === parentRowBytes) {
      await this.writer.write(bytes.subarray(0, end * parentRowBytes));
      return;
    }
    for (let row = 0; row < end; ) {
      const target = await this.writer.claim((end - row) * prefix.rowBytes, prefix.rowBytes);
      copier.copy(bytes.subarray(row * parentRowBytes), parentRowBytes, target, prefix.rowBytes);
      row += target.length / prefix.rowBytes;
    }
  }

  async endPrefix(): Promise<void> {
    this.#next++;
    await this.writeConstants();
  }
}

/** Rows `[firstRow, firstRow + rowCount)` of a tensor of the parent. */
interface ParentRows {
  /** A part of `area`. */
  bytes: Uint8Array;
  /** Has room for the rows in either type. */
  readonly area: Uint8Array;
  readonly firstRow: number;
  readonly rowCount: number;
}

/**
 * Writes all data of all copies.
 *
 * The copies have the parent's factors in one and the same order; only the alphas between them may differ in place.
 */
export async function copyPrefixes(
  file: Adapter["file"],
  copies: readonly CopyInProgress[],
  { onProgress, signal, subject }: CopyOptions,
): Promise<void> {
  const prefixes = [...copies[0]!.output.contents.values()].filter(isPrefix);
  const totalBytes = prefixes.reduce((sum, { parent }) => sum + parent.sizeBytes, 0);
  const largestRowBytes = prefixes.reduce((max, prefix) => Math.max(max, areaRowBytes(prefix)), 0);
  const copier = new RowCopier(Math.max(CHUNK_BYTES, largestRowBytes));

  for (const copy of copies) await copy.writeConstants();
  let doneBytes = 0;
  for (;;) {
    const next = copies.map((copy) => copy.nextPrefix());
    const [first] = next;
    if (first === null || first === undefined) return;
    throwIfAborted(signal, subject);
    const rowsNeeded = next.reduce((max, prefix) => Math.max(max, prefix!.rows), 0);
    const cast = castOf(next as readonly TensorPrefix[], subject);
    for await (const rows of readRows(file, first, rowsNeeded, copier.areas)) {
      if (cast !== null) cast(rows);
      for (const [i, copy] of copies.entries()) await copy.writeRows(next[i]!, rows, copier);
    }
    for (const copy of copies) await copy.endPrefix();
    doneBytes += first.parent.sizeBytes;
    onProgress?.({ doneBytes, totalBytes });
  }
}

function isPrefix(content: TensorPrefix | Uint8Array): content is TensorPrefix {
  return !(content instanceof Uint8Array);
}

/** What a row takes while it is in memory: in the parent's type, or in the wider one that it is converted to. */
function areaRowBytes({ parent, parentRows, dtype }: TensorPrefix): number {
  const rowBytes = parent.sizeBytes / parentRows;
  return Math.max(rowBytes, (rowBytes / elementBytes(parent.dtype)!) * elementBytes(dtype)!);
}

/** Puts rows of the parent into the type of the copies, all of which have the same; null where it is the parent's. */
function castOf(prefixes: readonly TensorPrefix[], subject: string): ((rows: ParentRows) => void) | null {
  const { parent, parentRows, dtype } = prefixes[0]!;
  if (dtype === parent.dtype) return null;
  const columns = parent.sizeBytes / parentRows / elementBytes(parent.dtype)!;
  const usedBytes = prefixes.reduce((max, { rowBytes }) => Math.max(max, rowBytes), 0);
  const cast = {
    from: parent.dtype,
    to: dtype as CopyDtype,
    columns,
    usedColumns: usedBytes / elementBytes(dtype)!,
    subject: `${subject}: ${parent.name}`,
  };
  return (rows) => {
    const converted = castValues(rows.bytes, cast);
    rows.area.set(converted);
    rows.bytes = rows.area.subarray(0, converted.length);
  };
}

/** The first rows of a tensor, as many at a time as fit into an area; the other area is filled meanwhile. */
async function* readRows(
  file: Adapter["file"],
  prefix: TensorPrefix,
  rowsNeeded: number,
  areas: readonly [Uint8Array, Uint8Array],
): AsyncGenerator<ParentRows, void, void> {
  const { parent, parentRows } = prefix;
  const rowBytes = parent.sizeBytes / parentRows;
  const rowsPerArea = Math.floor(areas[0].length / areaRowBytes(prefix));
  const read = (firstRow: number, area: Uint8Array) => {
    const rowCount = Math.min(rowsPerArea, rowsNeeded - firstRow);
    const bytes = area.subarray(0, rowCount * rowBytes);
    const done = file.readInto(parent.name, firstRow * rowBytes, bytes);
    done.catch(() => undefined); // Awaited in its turn, unless the caller stops before.
    return { bytes, area, firstRow, rowCount, done };
  };
  let next = read(0, areas[0]);
  for (let part = 1; ; part++) {
    const rows = next;
    await rows.done;
    const nextRow = rows.firstRow + rows.rowCount;
    if (nextRow < rowsNeeded) next = read(nextRow, areas[part % 2]!);
    yield rows;
    if (nextRow >= rowsNeeded) return;
  }
}
