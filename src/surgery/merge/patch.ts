/** `W' = W + Σ scale · up · down`, streamed a few rows at a time in the weight's own type. */
import { DyloraError } from "../../errors.js";
import { combineRowsToFloat32 } from "../../linalg/strips.js";
import {
  type Dtype,
  decodeToFloat32,
  elementBytes,
  encodeFromFloat32,
  type SafetensorsFile,
  type TensorInfo,
} from "../../safetensors/index.js";
import type { ChangedRows } from "./changes.js";
import { concatenatedDown, readFinite, totalRank } from "./factors.js";
import type { MergeModule } from "./terms.js";

/** Numbers of a weight in memory at once: what is made of them stays in the processor's cache. */
const CHUNK_ELEMENTS = 1 << 17;

/** Of so many numbers one is compared with what was meant: enough for two digits of `rounding`. */
const SAMPLE_STRIDE = 16;

/** What was done to the weights, summed up over all of them. */
export class PatchStatistics {
  tensors = 0;
  modules = 0;
  /** Squared norms. */
  #changed = 0;
  #lost = 0;

  add(change: number, lost: number): void {
    this.#changed += change;
    this.#lost += lost;
  }

  /** `norm(written - exact) / norm(change)` of a sample: how much of the change the weights' type is too coarse for. */
  get rounding(): number {
    return this.#changed === 0 ? 0 : Math.sqrt(this.#lost / this.#changed);
  }
}

/**
 * The bytes of a changed tensor, front to back.
 *
 * @param blocks - the changed rows, ascending, not overlapping; other rows are copied as they are
 * @throws {DyloraError} `E_INCOMPATIBLE` where the sum is not finite in the tensor's type
 */
export async function* patchedTensor(
  file: SafetensorsFile,
  tensor: TensorInfo,
  blocks: readonly ChangedRows[],
  statistics: PatchStatistics,
): AsyncGenerator<Uint8Array, void, void> {
  statistics.tensors++;
  const rows = tensor.shape[0]!;
  const rowBytes = tensor.sizeBytes / rows;
  let next = 0;
  for (const { module, firstRow, rowCount } of blocks) {
    if (next < firstRow) yield await file.readRange(tensor.name, next * rowBytes, firstRow * rowBytes);
    statistics.modules++;
    yield* patchedRows(file, tensor, module, firstRow, rowCount, statistics);
    next = firstRow + rowCount;
  }
  if (next < rows) yield await file.readRange(tensor.name, next * rowBytes, tensor.sizeBytes);
}

async function* patchedRows(
  file: SafetensorsFile,
  tensor: TensorInfo,
  module: MergeModule,
  firstRow: number,
  rowCount: number,
  statistics: PatchStatistics,
): AsyncGenerator<Uint8Array, void, void> {
  const rank = totalRank(module);
  const [down, up] = [await concatenatedDown(module), await strengthenedUp(module, rank)];
  const rowBytes = tensor.sizeBytes / tensor.shape[0]!;
  const columns = down.length / rank;
  const rowsPerChunk = Math.max(1, Math.floor(CHUNK_ELEMENTS / columns));
  for (let row = 0; row < rowCount; row += rowsPerChunk) {
    const count = Math.min(rowsPerChunk, rowCount - row);
    const begin = (firstRow + row) * rowBytes;
    const bytes = await file.readRange(tensor.name, begin, begin + count * rowBytes);
    const change = combineRowsToFloat32(up.subarray(row * rank, (row + count) * rank), count, down, rank);
    yield addChange(bytes, tensor.dtype, change, `${file.path}: tensor ${tensor.name}`, statistics);
  }
}

/** `[O, R]`: the terms' up factors side by side, each times its scale. */
async function strengthenedUp({ terms, outFeatures }: MergeModule, rank: number): Promise<Float64Array> {
  const all = new Float64Array(outFeatures * rank);
  let first = 0;
  for (const { adapter, module, scale } of terms) {
    const up = await readFinite(adapter, module.up.name);
    for (let row = 0; row < outFeatures; row++) {
      for (let k = 0; k < module.rank; k++) {
        all[row * rank + first + k] = up[row * module.rank + k]! * scale;
      }
    }
    first += module.rank;
  }
  return all;
}

/** @param change - is used up */
function addChange(
  bytes: Uint8Array,
  dtype: Dtype,
  change: Float32Array,
  subject: string,
  statistics: PatchStatistics,
): Uint8Array {
  const weights = decodeToFloat32(bytes, dtype);
  const exact = new Float64Array(Math.ceil(change.length / SAMPLE_STRIDE));
  let changed = 0;
  for (let i = 0, k = 0; i < change.length; i += SAMPLE_STRIDE, k++) {
    changed += change[i]! * change[i]!;
    exact[k] = weights[i]! + change[i]!;
  }
  const sum = change;
  for (let i = 0; i < sum.length; i++) sum[i] = weights[i]! + sum[i]!;
  const encoded = encodeFromFloat32(sum, dtype);
  if (!isFiniteIn(encoded, dtype)) throw notFinite(subject, dtype, weights, decodeToFloat32(encoded, dtype));
  const written = decodeToFloat32(everyNth(encoded, elementBytes(dtype)!), dtype);
  let lost = 0;
  for (let k = 0; k < written.length; k++) lost += (written[k]! - exact[k]!) ** 2;
  statistics.add(changed, lost);
  return encoded;
}

/** The first of every `SAMPLE_STRIDE` elements. */
function everyNth(bytes: Uint8Array, size: number): Uint8Array {
  const count = Math.ceil(bytes.length / size / SAMPLE_STRIDE);
  const sample = new Uint8Array(count * size);
  for (let k = 0; k < count; k++) {
    for (let byte = 0; byte < size; byte++) sample[k * size + byte] = bytes[k * SAMPLE_STRIDE * size + byte]!;
  }
  return sample;
}

/** Bits of the exponent in the upper half of an element: all of them are set in infinity and NaN alone. */
const EXPONENT: Readonly<Partial<Record<Dtype, number>>> = { F16: 0x7c00, BF16: 0x7f80, F32: 0x7f80 };

/** Whether all elements are finite, without decoding them. Files are little-endian. */
function isFiniteIn(bytes: Uint8Array, dtype: Dtype): boolean {
  const exponent = EXPONENT[dtype]!;
  const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2);
  const step = elementBytes(dtype)! / 2;
  for (let i = step - 1; i < halves.length; i += step) {
    if ((halves[i]! & exponent) === exponent) return false;
  }
  return true;
}

function notFinite(subject: string, dtype: Dtype, before: Float32Array, after: Float32Array): DyloraError {
  const index = after.findIndex((value) => !Number.isFinite(value));
  const wasFinite = Number.isFinite(before[index]);
  return new DyloraError(
    "E_INCOMPATIBLE",
    wasFinite
      ? `merge: ${subject}: the sum is ${after[index]} in ${dtype}`
      : `merge: ${subject} holds ${before[index]}`,
    {
      note: wasFinite
        ? "Nothing was written. Lower the ratios, or merge into a float32 version of the base model."
        : "Nothing was written. The base model is damaged: get it again.",
    },
  );
}
