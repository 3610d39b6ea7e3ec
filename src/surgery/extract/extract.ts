/** Writes the copies of an extraction plan, all of them in one pass over their parent. */
import { mkdir, realpath, statfs } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import type { Adapter } from "../../adapter/index.js";
import { DyloraError } from "../../errors.js";
import { AtomicFolder, throwIfAborted, writeError, writeFileAtomic } from "../../io/index.js";
import {
  computeModelHash,
  HashPool,
  MODEL_HASH_KEY,
  SafetensorsWriter,
  sha256Stream,
  type WriteResult,
} from "../../safetensors/index.js";
import { PARENT_HASH_KEY } from "../common/parent-keys.js";
import { checkPeftTarget } from "../common/peft-target.js";
import type { GroupRanks } from "./component-ranks.js";
import { isFolderCopy } from "./copy-files.js";
import { CopyInProgress, copyPrefixes } from "./copy-prefixes.js";
import type { MixedRanks } from "./plan-budget.js";
import type { ExtractOutput, ExtractPlan } from "./plan-extract.js";

export interface RunExtractOptions {
  /** Replace existing files. Default false: `E_EXISTS`, and nothing is written. */
  readonly overwrite?: boolean;
  /** Called after each tensor of the parent. */
  readonly onProgress?: (progress: { readonly doneBytes: number; readonly totalBytes: number }) => void;
  readonly signal?: AbortSignal;
}

interface WrittenFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly dataSha256?: string;
}

export interface ExtractReport {
  readonly parent: {
    readonly path: string;
    readonly sizeBytes: number;
    readonly maxRank: number;
    /** SHA-256 of its tensors' data; missing where the plan is without hashes, as in `outputs`. */
    readonly dataSha256?: string;
    /** Whether `sshs_model_hash` in its metadata is that hash; null where one of them is missing. */
    readonly hashMatches: boolean | null;
  };
  readonly unit: number;
  readonly alphaRule: ExtractPlan["alphaRule"];
  readonly alphaRuleSource: ExtractPlan["alphaRuleSource"];
  /** Null: the parent's. */
  readonly dtype: ExtractPlan["dtype"];
  readonly notes: readonly string[];
  readonly outputs: readonly {
    readonly rank: number;
    readonly componentRanks?: GroupRanks;
    readonly mixed?: MixedRanks;
    readonly path: string;
    readonly sizeBytes: number;
    /** Missing for a folder. */
    readonly dataSha256?: string;
    /** The files of a folder (PEFT's dialect). */
    readonly files?: readonly WrittenFile[];
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

/** Below this, starting threads for the hashes takes longer than the hashes. */
const MIN_POOL_BYTES = 32 << 20;

/**
 * Carries out a plan. Either all copies of a pass appear, whole and on the disk, or none.
 *
 * The parent is read once for its copies, and once more for its hash, a few megabytes at a time.
 *
 * @throws {DyloraError} `E_EXISTS`, `E_WRITE`, `E_READ`, `E_INTERRUPTED`; `E_INCOMPATIBLE` for a number that the chosen type
 *   cannot hold
 */
export async function extract(plan: ExtractPlan, options: RunExtractOptions = {}): Promise<ExtractReport> {
  const startMs = performance.now();
  const { parent, outputs, hashes } = plan;
  await checkTargets(parent, outputs, options.overwrite ?? false);
  const writtenBytes = outputs.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const pool =
    hashes && writtenBytes >= MIN_POOL_BYTES ? new HashPool(Math.min(availableParallelism(), 8)) : null;
  try {
    const parentHash = hashes ? computeModelHash(parent.file, pool?.open()) : null;
    parentHash?.catch(() => undefined); // Awaited below, unless something else fails first.
    const written: ExtractReport["outputs"][number][] = [];
    for (let first = 0; first < outputs.length; first += MAX_FILES_PER_PASS) {
      const pass = outputs.slice(first, first + MAX_FILES_PER_PASS);
      written.push(...(await extractPass(plan, pass, parentHash, pool, options)));
    }
    const dataSha256 = await parentHash;
    // Of several files every one has its own hash.
    const stated = parent.parts.length > 1 ? undefined : parent.metadata[MODEL_HASH_KEY];
    const hashMatches = stated === undefined || dataSha256 === null ? null : stated === dataSha256;
    return {
      parent: {
        path: parent.path,
        sizeBytes: parent.file.sizeBytes,
        maxRank: plan.maxRank,
        ...(dataSha256 === null ? {} : { dataSha256 }),
        hashMatches,
      },
      unit: plan.unit,
      alphaRule: plan.alphaRule,
      alphaRuleSource: plan.alphaRuleSource,
      dtype: plan.dtype,
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
  parentHash: Promise<string> | null,
  pool: HashPool | null,
  options: RunExtractOptions,
): Promise<ExtractReport["outputs"][number][]> {
  const { parent, hashes } = plan;
  const subject = `extract ${parent.path}`;
  const pending: PendingOutput[] = [];
  try {
    const fileCount = outputs.reduce((sum, { files }) => sum + files.length, 0);
    const bufferBytes = Math.floor(BUFFERS_BYTES / 2 / fileCount);
    for (const output of outputs) {
      const overwrite = options.overwrite ?? false;
      const folder = isFolderCopy(parent) ? await AtomicFolder.create(output.path, { overwrite }) : null;
      const copies: CopyInProgress[] = [];
      pending.push({ output, folder, copies });
      for (const file of output.files) {
        const path = folder === null ? file.path : await placeIn(folder, file.path);
        const writer = await SafetensorsWriter.create(path, file.layout, {
          metadata: file.metadata,
          overwrite,
          hashes,
          bufferBytes: Math.max(MIN_BUFFER_BYTES, Math.min(MAX_BUFFER_BYTES, bufferBytes)),
          hash: hashes ? (pool?.open() ?? sha256Stream()) : null,
        });
        copies.push(new CopyInProgress(file, writer));
      }
    }
    await copyAll(parent, pending, { ...options, subject });
    const hash = await parentHash;
    throwIfAborted(options.signal, subject);
    const finish = ({ output, writer }: CopyInProgress) =>
      writer.finish(hash !== null && PARENT_HASH_KEY in output.metadata ? { [PARENT_HASH_KEY]: hash } : {});
    const results = await Promise.all(pending.map(({ copies }) => Promise.all(copies.map(finish))));
    for (const one of pending) await publish(one);
    return pending.map((one, i) => reportOutput(one, results[i]!));
  } catch (error) {
    await Promise.all(pending.flatMap(({ copies }) => copies.map(({ writer }) => writer.discard())));
    await Promise.all(pending.map(({ folder }) => folder?.discard()));
    throw error;
  }
}

/** A copy that is being written. */
interface PendingOutput {
  readonly output: ExtractOutput;
  /** Null where the copy is a file. */
  readonly folder: AtomicFolder | null;
  /** Its files. */
  readonly copies: CopyInProgress[];
}

/** The copies have the same files, in the same order: each is one pass over the parent's file. */
async function copyAll(
  parent: Adapter,
  pending: readonly PendingOutput[],
  options: RunExtractOptions & { readonly subject: string },
): Promise<void> {
  const totalBytes = parent.modules.reduce((sum, { down, up }) => sum + down.sizeBytes + up.sizeBytes, 0);
  let doneBytes = 0;
  for (const index of pending[0]!.copies.keys()) {
    const copies = pending.map((one) => one.copies[index]!);
    let ownBytes = 0;
    await copyPrefixes(parent.file, copies, {
      ...options,
      onProgress: (progress) => {
        ownBytes = progress.doneBytes;
        options.onProgress?.({ doneBytes: doneBytes + ownBytes, totalBytes });
      },
    });
    doneBytes += ownBytes;
  }
}

/** The place of a file while its folder has its temporary name; makes the folders in between. */
async function placeIn(folder: AtomicFolder, path: string): Promise<string> {
  const place = join(folder.tempPath, relative(folder.path, resolve(path)));
  try {
    await mkdir(dirname(place), { recursive: true });
  } catch (cause) {
    throw writeError(folder.path, cause);
  }
  return place;
}

async function publish({ output, folder, copies }: PendingOutput): Promise<void> {
  for (const { writer } of copies) await writer.publish();
  if (folder === null) return;
  for (const { config } of output.files) {
    if (config !== null) await writeFileAtomic(await placeIn(folder, config.path), config.text);
  }
  await folder.publish();
}

function reportOutput(
  { output, folder }: PendingOutput,
  results: readonly WriteResult<string | null>[],
): ExtractReport["outputs"][number] {
  const { rank, componentRanks, mixed, wholeModules, path, files } = output;
  const facts = {
    rank,
    ...(componentRanks === undefined ? {} : { componentRanks }),
    ...(mixed === undefined ? {} : { mixed }),
    wholeModules,
  };
  const written = results.map((result, i): WrittenFile => {
    const { sizeBytes, dataSha256 } = result;
    const ownPath = folder === null ? result.path : files[i]!.path;
    return { path: ownPath, sizeBytes, ...(dataSha256 === null ? {} : { dataSha256 }) };
  });
  if (folder === null) return { ...facts, ...written[0]! };
  const sizeBytes = written.reduce((sum, file) => sum + file.sizeBytes, 0);
  return { ...facts, path, sizeBytes, files: written };
}

/** Fails before anything is written where it can be known beforehand; makes the folder. */
async function checkTargets(
  parent: Adapter,
  outputs: readonly ExtractOutput[],
  overwrite: boolean,
): Promise<void> {
  const subject = `extract ${parent.path}`;
  const inputs = parent.parts.map(({ file }) => file.path);
  const sources = await Promise.all(inputs.map((path) => realpath(path)));
  for (const { path } of outputs) {
    if (isFolderCopy(parent)) {
      await checkPeftTarget(subject, path, inputs, overwrite);
      continue;
    }
    const target = await realpath(path).catch(() => null);
    if (target !== null && sources.includes(target)) {
      throw new DyloraError("E_EXISTS", `${subject}: a copy would replace the file it is taken from`, {
        note: "Nothing was written. Choose another name or folder for the copies.",
      });
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
