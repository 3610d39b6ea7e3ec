/** Merges adapters into a base model: `W' = W + ratio · alpha / rank · up · down` for every module. */
import { mkdir, realpath, stat } from "node:fs/promises";
import { basename, dirname, join, sep } from "node:path";
import { DyloraError } from "../../errors.js";
import { AtomicFolder, copyFileSynced, throwIfAborted, writeError } from "../../io/index.js";
import {
  computeModelHash,
  HashPool,
  SafetensorsFile,
  type TensorSource,
  writeSafetensors,
} from "../../safetensors/index.js";
import { type Changes, locateChanges } from "./changes.js";
import { type FolderFiles, sortFolderFiles } from "./folder-files.js";
import type { RunMergeOptions } from "./merge.js";
import { mergedBaseMetadata } from "./metadata.js";
import { type ModelTarget, type ModelWeights, matchModules, openModelWeights, weightFiles } from "./model.js";
import { checkOutput } from "./output.js";
import { PatchStatistics, patchedTensor } from "./patch.js";
import { collectTerms, type MergeInput, type MergeSum } from "./terms.js";

export interface MergeBasePlan {
  readonly base: ModelWeights;
  readonly inputs: readonly MergeInput[];
  readonly sum: MergeSum;
  /** The file, or for a diffusers folder the folder, to write. */
  readonly path: string;
  readonly changes: Changes;
  /** Null for a base of one file. */
  readonly folder: FolderFiles | null;
  readonly changedTensors: number;
  readonly sizeBytes: number;
  readonly notes: readonly string[];
}

export interface MergeBaseReport {
  readonly path: string;
  readonly layout: ModelWeights["layout"];
  readonly sizeBytes: number;
  /** Of a base of one file: SHA-256 of its tensors' data. */
  readonly dataSha256: string | null;
  readonly inputs: readonly { readonly path: string; readonly ratio: number; readonly dataSha256: string }[];
  readonly changedModules: number;
  readonly changedTensors: number;
  /** `norm(written - exact) / norm(change)`: what the type of the base model's weights costs. */
  readonly rounding: number;
  readonly silenced: readonly string[];
  readonly notes: readonly string[];
  readonly elapsedMs: number;
}

/**
 * Plans a merge into a base model. Only headers are read.
 *
 * @param path - what to write: a file for a base of one file, a folder for a diffusers folder
 * @throws {DyloraError} as `openCheckpoint`, `collectTerms`, and `E_INCOMPATIBLE` for an adapter that does not fit
 */
export async function planMergeIntoBase(
  basePath: string,
  inputs: readonly MergeInput[],
  path: string,
): Promise<MergeBasePlan> {
  const sum = collectTerms(inputs, `merge into ${basePath}`);
  const base = await openModelWeights(basePath);
  const targets = new Map<string, ModelTarget>();
  for (const { adapter } of inputs) {
    for (const [name, target] of matchModules(base, adapter.modules)) targets.set(name, target);
  }
  const changes = await locateChanges(targets, sum.modules);
  const changedFiles = new Set(changes.keys());
  const folder =
    base.layout === "diffusers" ? await sortFolderFiles(basePath, weightFiles(base), changedFiles) : null;
  let sizeBytes = (folder?.copied ?? []).reduce((total, file) => total + file.sizeBytes, 0);
  for (const file of changedFiles) sizeBytes += (await stat(file)).size;
  const changedTensors = [...changes.values()].reduce((total, tensors) => total + tensors.size, 0);
  return {
    base,
    inputs,
    sum,
    path,
    changes,
    folder,
    changedTensors,
    sizeBytes,
    notes: [...sum.notes, ...(await baseNotes(base, folder))],
  };
}

/**
 * Carries out a plan, tensor by tensor. Tensors without a module are copied byte for byte; every tensor keeps its type.
 *
 * @throws {DyloraError} `E_EXISTS`, `E_WRITE`, `E_READ`, `E_INTERRUPTED`; `E_INCOMPATIBLE` for a sum that a tensor's type
 *   cannot hold
 */
export async function runMergeIntoBase(
  plan: MergeBasePlan,
  options: RunMergeOptions = {},
): Promise<MergeBaseReport> {
  const startMs = performance.now();
  const { base, inputs, path, folder } = plan;
  const overwrite = options.overwrite ?? false;
  const adapterPaths = inputs.map(({ adapter }) => adapter.path);
  await checkOutput("merge", path, [base.path, ...adapterPaths], overwrite);
  const hashes: string[] = [];
  for (const { adapter } of inputs) hashes.push(await computeModelHash(adapter.file));
  const job = new PatchJob(plan, hashes, options);
  let written: { sizeBytes: number; dataSha256: string | null };
  if (folder === null) {
    const [file] = plan.changes.keys();
    written = await job.patchFile(file!, path, overwrite);
  } else {
    written = { sizeBytes: await writeFolder(plan, folder, job, options), dataSha256: null };
  }
  return {
    path,
    layout: base.layout,
    ...written,
    inputs: inputs.map(({ adapter, ratio }, i) => ({ path: adapter.path, ratio, dataSha256: hashes[i]! })),
    changedModules: job.statistics.modules,
    changedTensors: job.statistics.tensors,
    rounding: job.statistics.rounding,
    silenced: plan.sum.silenced,
    notes: plan.notes,
    elapsedMs: performance.now() - startMs,
  };
}

/** Below this, starting a thread for the hash takes longer than the hash. */
const MIN_POOL_BYTES = 32 << 20;

/** The weight files of a merge, whose progress and statistics are one. */
class PatchJob {
  readonly statistics = new PatchStatistics();
  readonly #plan: MergeBasePlan;
  readonly #hashes: readonly string[];
  readonly #options: RunMergeOptions;
  #doneBytes = 0;

  constructor(plan: MergeBasePlan, hashes: readonly string[], options: RunMergeOptions) {
    this.#plan = plan;
    this.#hashes = hashes;
    this.#options = options;
  }

  /** Counts bytes that are done, whoever wrote them. */
  report(bytes: number): void {
    this.#doneBytes += bytes;
    this.#options.onProgress?.({ doneBytes: this.#doneBytes, totalBytes: this.#plan.sizeBytes });
  }

  async patchFile(from: string, to: string, overwrite: boolean) {
    const { inputs, base } = this.#plan;
    const { signal } = this.#options;
    const changes = this.#plan.changes.get(from)!;
    await using file = await SafetensorsFile.open(from);
    const sources = [...file.header.tensors.values()].map((tensor): TensorSource => {
      const blocks = changes.get(tensor.name);
      return {
        ...tensor,
        data: () =>
          blocks === undefined
            ? file.stream(tensor.name)
            : patchedTensor(file, tensor, blocks, this.statistics),
      };
    });
    let fileBytes = 0;
    // Another thread computes the hash while this one computes the weights.
    const pool = file.sizeBytes >= MIN_POOL_BYTES ? new HashPool(1) : null;
    try {
      const { sizeBytes, dataSha256 } = await writeSafetensors(to, sources, {
        metadata: mergedBaseMetadata(file.header.metadata, inputs, this.#hashes, base.path),
        overwrite,
        onProgress: ({ doneBytes }) => {
          this.report(doneBytes - fileBytes);
          fileBytes = doneBytes;
        },
        ...(pool === null ? {} : { hash: pool.open() }),
        ...(signal === undefined ? {} : { signal }),
      });
      return { sizeBytes, dataSha256 };
    } finally {
      await pool?.close();
    }
  }
}

async function writeFolder(
  plan: MergeBasePlan,
  { copied, changed }: FolderFiles,
  job: PatchJob,
  options: RunMergeOptions,
): Promise<number> {
  const { base, path } = plan;
  const inputPaths = plan.inputs.map(({ adapter }) => adapter.path);
  await refuseNesting(path, base.path, inputPaths);
  await refuseForeignFolder(path);
  const folder = await AtomicFolder.create(path, { overwrite: options.overwrite ?? false });
  try {
    let sizeBytes = 0;
    for (const file of copied) {
      throwIfAborted(options.signal, `merge into ${path}`);
      await copyFileSynced(file.realPath, await placeFor(folder.tempPath, file.path));
      sizeBytes += file.sizeBytes;
      job.report(file.sizeBytes);
    }
    for (const file of changed) {
      const target = await placeFor(folder.tempPath, file.path);
      sizeBytes += (await job.patchFile(file.realPath, target, false)).sizeBytes;
    }
    throwIfAborted(options.signal, `merge into ${path}`);
    await folder.publish();
    return sizeBytes;
  } catch (error) {
    await folder.discard();
    throw error;
  }
}

async function placeFor(root: string, path: string): Promise<string> {
  const target = join(root, path);
  try {
    await mkdir(dirname(target), { recursive: true });
  } catch (cause) {
    throw writeError(target, cause);
  }
  return target;
}

/** A copy inside of its source would be copied into itself; inputs inside of a folder that is replaced would go with it. */
async function refuseNesting(path: string, basePath: string, adapterPaths: readonly string[]): Promise<void> {
  const base = (await realpath(basePath)) + sep;
  const target = await realOrParent(path);
  if (target.startsWith(base)) throw nested(`${path} lies inside the base model's folder`);
  for (const input of [basePath, ...adapterPaths]) {
    if ((await realpath(input)).startsWith(target + sep)) throw nested(`${input} lies inside ${path}`);
  }
}

/** The real path that an output has or will have. */
async function realOrParent(path: string): Promise<string> {
  const real = await realpath(path).catch(() => null);
  if (real !== null) return real;
  const parent = await realpath(dirname(path)).catch(() => null);
  return parent === null ? path : join(parent, basename(path));
}

function nested(problem: string): DyloraError {
  return new DyloraError("E_USAGE", `merge: ${problem}`, {
    note: "Nothing was written. Choose a place beside the files that are read.",
  });
}

/** `--force` replaces a model, not just any folder. */
async function refuseForeignFolder(path: string): Promise<void> {
  const stats = await stat(path).catch(() => null);
  if (stats === null) return;
  const isModel = stats.isDirectory() && (await stat(join(path, "unet")).catch(() => null)) !== null;
  if (isModel) return;
  throw new DyloraError("E_EXISTS", `merge: ${path} is no model folder`, {
    note: "It was not touched: only a folder with unet/ in it is replaced. Choose another name.",
  });
}

async function baseNotes(base: ModelWeights, folder: FolderFiles | null): Promise<string[]> {
  if (folder !== null) {
    if (folder.leftOut.length === 0) return [];
    return [`Weights without the adapters are not taken over: ${folder.leftOut.join(", ")}.`];
  }
  await using file = await SafetensorsFile.open(base.path);
  const emaCount = [...file.header.tensors.keys()].filter((name) => name.startsWith("model_ema.")).length;
  return emaCount === 0
    ? []
    : [
        `The ${emaCount} tensors of the averaged U-Net (model_ema.*), which no image is made with, stay as they are.`,
      ];
}
