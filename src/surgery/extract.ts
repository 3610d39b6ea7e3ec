/** Writes the copies of an extraction plan, all of them in one pass over their parent. */
import { mkdir, realpath, statfs } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { dirname } from "node:path";
import { DyloraError } from "../errors.js";
import { throwIfAborted, writeError } from "../io/index.js";
import {
  computeModelHash,
  HashPool,
  MODEL_HASH_KEY,
  SafetensorsWriter,
  sha256Stream,
} from "../safetensors/index.js";
import type { GroupRanks } from "./component-ranks.js";
import { CopyInProgress, copyPrefixes } from "./copy-prefixes.js";
import { PARENT_HASH_KEY } from "./extracted-metadata.js";
import type { ExtractOutput, ExtractPlan } from "./plan-extract.js";

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
    readonly path: string;
    readonly sizeBytes: number;
    readonly dataSha256?: string;
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
  await checkTargets(parent.path, outputs);
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
    const stated = parent.metadata[MODEL_HASH_KEY];
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
  const copies: CopyInProgress[] = [];
  try {
    const bufferBytes = Math.floor(BUFFERS_BYTES / 2 / outputs.length);
    for (const output of outputs) {
      const writer = await SafetensorsWriter.create(output.path, output.layout, {
        metadata: output.metadata,
        overwrite: options.overwrite ?? false,
        hashes,
        bufferBytes: Math.max(MIN_BUFFER_BYTES, Math.min(MAX_BUFFER_BYTES, bufferBytes)),
        hash: hashes ? (pool?.open() ?? sha256Stream()) : null,
      });
      copies.push(new CopyInProgress(output, writer));
    }
    await copyPrefixes(parent.file, copies, { ...options, subject });
    const late: Record<string, string> = parentHash === null ? {} : { [PARENT_HASH_KEY]: await parentHash };
    throwIfAborted(options.signal, subject);
    const results = await Promise.all(copies.map((copy) => copy.writer.finish(late)));
    for (const { writer } of copies) await writer.publish();
    return outputs.map(({ rank, componentRanks, wholeModules }, i) => {
      const { path, sizeBytes, dataSha256 } = results[i]!;
      return {
        rank,
        ...(componentRanks === undefined ? {} : { componentRanks }),
        path,
        sizeBytes,
        ...(dataSha256 === null ? {} : { dataSha256 }),
        wholeModules,
      };
    });
  } catch (error) {
    await Promise.all(copies.map(({ writer }) => writer.discard()));
    throw error;
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
