/** Writes the copies of an extraction plan, all of them in one pass over their parent. */
import { mkdir, realpath, statfs } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { dirname } from "node:path";
import type { Adapter } from "../adapter/index.js";
import { DyloraError } from "../errors.js";
import { throwIfAborted, writeError } from "../io/index.js";
import {
  computeModelHash,
  HashPool,
  MODEL_HASH_KEY,
  type SafetensorsFile,
  SafetensorsWriter,
  sha256Stream,
} from "../safetensors/index.js";
import { copyRowPrefixes } from "./copy-rows.js";
import { PARENT_HASH_KEY } from "./extracted-metadata.js";
import type { ExtractOutput, ExtractPlan, TensorPrefix } from "./plan-extract.js";

export interface RunExtractOptions {
  /** Replace existing files. Default false: `E_EXISTS`, and nothing is written. */
  readonly overwrite?: boolean;
  /** Called after each tensor of the parent. */
  readonly onProgress?: (progress: { readonly doneBytes: number; readonly totalBytes: number }) => void;
  readonly signal?: AbortSignal;
}

export interface ExtractReport {
  readonly parent: {
    readonly path: string;
    readonly sizeBytes: number;
    readonly maxRank: number;
    /** SHA-256 of its tensors' data. */
    readonly dataSha256: string;
    /** Whether `sshs_model_hash` in its metadata is that hash; null where it has none. */
    readonly hashMatches: boolean | null;
  };
  readonly unit: number;
  readonly alphaRule: ExtractPlan["alphaRule"];
  readonly alphaRuleSource: ExtractPlan["alphaRuleSource"];
  readonly notes: readonly string[];
  readonly outputs: readonly {
    readonly rank: number;
    readonly path: string;
    readonly sizeBytes: number;
    readonly dataSha256: string;
    readonly wholeModules: number;
  }[];
  readonly elapsedMs: number;
}

/** Memory for the buffers of all files that are written at once. */
const BUFFERS_BYTES = 32 << 20;
const MIN_BUFFER_BYTES = 128 << 10;
const MAX_BUFFER_BYTES = 512 << 10;

/** Files written in one pass; more (rank 512 with unit 1) take further passes, within the same memory. */
const MAX_FILES_PER_PASS = 128;

/** How much of a tensor is in memory at once. */
const CHUNK_BYTES = 4 << 20;

/** Below this, starting threads for the hashes takes longer than the hashes. */
const MIN_POOL_BYTES = 32 << 20;

/**
 * Carries out a plan. Either all copies of a pass appear, whole and on the disk, or none.
 *
 * Every byte of the parent is read once for its copies and once for its hash, a few megabytes at a time.
 *
 * @throws {DyloraError} `E_EXISTS`, `E_WRITE`, `E_READ`, `E_INTERRUPTED`
 */
export async function extract(plan: ExtractPlan, options: RunExtractOptions = {}): Promise<ExtractReport> {
  const startMs = performance.now();
  const { parent, outputs } = plan;
  await checkTargets(parent.path, outputs);
  const writtenBytes = outputs.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const pool = writtenBytes >= MIN_POOL_BYTES ? new HashPool(Math.min(availableParallelism(), 8)) : null;
  try {
    const parentHash = computeModelHash(parent.file, pool?.open());
    parentHash.catch(() => undefined); // Awaited below, unless something else fails first.
    const written: ExtractReport["outputs"][number][] = [];
    for (let first = 0; first < outputs.length; first += MAX_FILES_PER_PASS) {
      const pass = outputs.slice(first, first + MAX_FILES_PER_PASS);
      written.push(...(await extractPass(plan, pass, parentHash, pool, options)));
    }
    const dataSha256 = await parentHash;
    const stated = parent.metadata[MODEL_HASH_KEY];
    const hashMatches = stated === undefined ? null : stated === dataSha256;
    return {
      parent: {
        path: parent.path,
        sizeBytes: parent.file.sizeBytes,
        maxRank: plan.maxRank,
        dataSha256,
        hashMatches,
      },
      unit: plan.unit,
      alphaRule: plan.alphaRule,
      alphaRuleSource: plan.alphaRuleSource,
      notes: hashMatches === false ? [...plan.notes, WRONG_HASH_NOTE] : plan.notes,
      outputs: written,
      elapsedMs: performance.now() - startMs,
    };
  } finally {
    await pool?.close();
  }
}

const WRONG_HASH_NOTE =
  "The file's own sshs_model_hash is not the hash of its data: it was changed after training, or written by a tool with a defect.";

async function extractPass(
  plan: ExtractPlan,
  outputs: readonly ExtractOutput[],
  parentHash: Promise<string>,
  pool: HashPool | null,
  options: RunExtractOptions,
): Promise<ExtractReport["outputs"][number][]> {
  const subject = `extract ${plan.parent.path}`;
  const copies: Copy[] = [];
  try {
    const bufferBytes = Math.floor(BUFFERS_BYTES / 2 / outputs.length);
    for (const output of outputs) {
      const writer = await SafetensorsWriter.create(output.path, output.layout, {
        metadata: output.metadata,
        overwrite: options.overwrite ?? false,
        hashes: true,
        bufferBytes: Math.max(MIN_BUFFER_BYTES, Math.min(MAX_BUFFER_BYTES, bufferBytes)),
        hash: pool?.open() ?? sha256Stream(),
      });
      copies.push(new Copy(output, writer));
    }
    await copyTensors(plan.parent, copies, subject, options);
    const late = { [PARENT_HASH_KEY]: await parentHash };
    throwIfAborted(options.signal, subject);
    const results = await Promise.all(copies.map((copy) => copy.writer.finish(late)));
    for (const { writer } of copies) await writer.publish();
    return outputs.map(({ rank, wholeModules }, i) => ({ rank, ...results[i]!, wholeModules }));
  } catch (error) {
    await Promise.all(copies.map(({ writer }) => writer.discard()));
    throw error;
  }
}

/** One file that is being written: what comes next in it. */
class Copy {
  readonly output: ExtractOutput;
  readonly writer: SafetensorsWriter;
  #next = 0;

  constructor(output: ExtractOutput, writer: SafetensorsWriter) {
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

  /** Writes this copy's part of the parent's rows `[firstRow, firstRow + rowCount)`. */
  async writeRows(prefix: TensorPrefix, rows: Uint8Array, firstRow: number, rowCount: number): Promise<void> {
    const parentRowBytes = rows.length / rowCount;
    const end = Math.min(rowCount, prefix.rows - firstRow);
    if (prefix.rowBytes === parentRowBytes) {
      if (end > 0) await this.writer.write(rows.subarray(0, end * parentRowBytes));
      return;
    }
    for (let row = 0; row < end; ) {
      const target = await this.writer.claim((end - row) * prefix.rowBytes, prefix.rowBytes);
      copyRowPrefixes(rows.subarray(row * parentRowBytes), parentRowBytes, target, prefix.rowBytes);
      row += target.length / prefix.rowBytes;
    }
  }

  async endPrefix(): Promise<void> {
    this.#next++;
    await this.writeConstants();
  }
}

/** All copies have the parent's factors in the same order, only the alphas between them may differ in place. */
async function copyTensors(
  parent: Adapter,
  copies: readonly Copy[],
  subject: string,
  options: RunExtractOptions,
): Promise<void> {
  for (const copy of copies) await copy.writeConstants();
  const totalBytes = parent.modules.reduce((sum, { down, up }) => sum + down.sizeBytes + up.sizeBytes, 0);
  let doneBytes = 0;
  for (;;) {
    const prefixes = copies.map((copy) => copy.nextPrefix());
    const [first] = prefixes;
    if (first === null || first === undefined) return;
    throwIfAborted(options.signal, subject);
    const rowsNeeded = prefixes.reduce((max, prefix) => Math.max(max, prefix!.rows), 0);
    for await (const { bytes, firstRow, rowCount } of readRows(parent.file, first, rowsNeeded)) {
      for (const [i, copy] of copies.entries()) await copy.writeRows(prefixes[i]!, bytes, firstRow, rowCount);
    }
    for (const copy of copies) await copy.endPrefix();
    doneBytes += first.parent.sizeBytes;
    options.onProgress?.({ doneBytes, totalBytes });
  }
}

/** The first rows of a tensor, as many at a time as fit into a chunk; the next chunk is read meanwhile. */
async function* readRows(file: SafetensorsFile, { parent, parentRows }: TensorPrefix, rowsNeeded: number) {
  const rowBytes = parent.sizeBytes / parentRows;
  const rowsPerChunk = Math.max(1, Math.floor(CHUNK_BYTES / rowBytes));
  const read = (firstRow: number) => {
    const rowCount = Math.min(rowsPerChunk, rowsNeeded - firstRow);
    const bytes = file.readRange(parent.name, firstRow * rowBytes, (firstRow + rowCount) * rowBytes);
    bytes.catch(() => undefined); // Awaited in its turn, unless the caller stops before.
    return { bytes, firstRow, rowCount };
  };
  let next = read(0);
  for (;;) {
    const { bytes, firstRow, rowCount } = next;
    const chunk = await bytes;
    const nextRow = firstRow + rowCount;
    if (nextRow < rowsNeeded) next = read(nextRow);
    yield { bytes: chunk, firstRow, rowCount };
    if (nextRow >= rowsNeeded) return;
  }
}

/** Fails before anything is written where it can be known beforehand; makes the folder. */
async function checkTargets(parentPath: string, outputs: readonly ExtractOutput[]): Promise<void> {
  const source = await realpath(parentPath);
  for (const { path } of outputs) {
    const target = await realpath(path).catch(() => null);
    if (target === source) {
      throw new DyloraError(
        "E_EXISTS",
        `extract ${parentPath}: a copy would replace the file it is taken from`,
        {
          note: "Nothing was written. Choose another name or folder for the copies.",
        },
      );
    }
  }
  const folder = dirname(outputs[0]!.path);
  try {
    await mkdir(folder, { recursive: true });
  } catch (cause) {
    throw writeError(folder, cause, { note: "Nothing was written. Choose a folder that you can write to." });
  }
  await checkSpace(folder, outputs);
}

async function checkSpace(folder: string, outputs: readonly ExtractOutput[]): Promise<void> {
  const neededBytes = outputs.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const space = await statfs(folder).catch(() => null);
  // Some network file systems report nothing.
  if (space === null || space.blocks === 0) return;
  const freeBytes = space.bavail * space.bsize;
  if (freeBytes >= neededBytes) return;
  throw new DyloraError(
    "E_WRITE",
    `extract to ${folder}: the copies take ${neededBytes} bytes, and the disk has ${freeBytes} free`,
    {
      note: "Nothing was written. Free some space, choose another folder, or fewer ranks.",
    },
  );
}
