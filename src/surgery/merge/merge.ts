/** Adds adapters up: into one adapter, exactly. Into a base model: merge-base.ts. */
import {
  type AdapterModuleSource,
  encodeScalarAs,
  kohyaTensorNames,
  type ModuleKind,
  writeAdapter,
} from "../../adapter/index.js";
import { DyloraError } from "../../errors.js";
import {
  buildHeader,
  computeModelHash,
  decodeToFloat32,
  encodeFromFloat32,
  HASH_PLACEHOLDERS,
  isWritableDtype,
  layoutData,
  type TensorSpec,
  type WritableDtype,
} from "../../safetensors/index.js";
import {
  concatenate,
  concatenatedDown,
  concatenatedUpT,
  type TruncatedModule,
  truncatedFactors,
} from "./factors.js";
import { mergedMetadata, nameOf } from "./metadata.js";
import { checkOutput } from "./output.js";
import { collectTerms, type MergeInput, type MergeModule, type MergeSum } from "./terms.js";

export interface MergeOptions {
  /** The file to write. */
  readonly path: string;
  /** Cut every module down to this rank, by its singular values. Default: keep all, exactly. */
  readonly rank?: number | null;
  /** The same for 3x3 convolutions. Default: `rank`. */
  readonly convRank?: number | null;
  /** Default: the type that all factors share; F32 where they differ. */
  readonly dtype?: WritableDtype;
  /** For the metadata. Default: now. */
  readonly date?: Date;
}

export interface MergedModule {
  readonly name: string;
  readonly kind: ModuleKind;
  readonly rank: number;
  readonly alpha: number;
  /** Whether something is cut off. */
  readonly isTruncated: boolean;
}

export interface MergePlan {
  readonly inputs: readonly MergeInput[];
  readonly sum: MergeSum;
  readonly path: string;
  readonly dtype: WritableDtype;
  readonly modules: readonly MergedModule[];
  readonly sizeBytes: number;
  readonly date: Date;
  readonly notes: readonly string[];
}

export interface RunMergeOptions {
  /** Replace an existing file. Default false: `E_EXISTS`, and nothing is written. */
  readonly overwrite?: boolean;
  readonly onProgress?: (progress: { readonly doneBytes: number; readonly totalBytes: number }) => void;
  readonly signal?: AbortSignal;
}

export interface MergeReport {
  readonly path: string;
  readonly sizeBytes: number;
  readonly dataSha256: string;
  readonly inputs: readonly {
    readonly path: string;
    readonly ratio: number;
    /** SHA-256 of its tensors' data. */
    readonly dataSha256: string;
  }[];
  readonly moduleCount: number;
  /** Lowest and highest. */
  readonly ranks: readonly [number, number];
  readonly dtype: WritableDtype;
  /**
   * `norm(written - exact) / norm(exact)` of the factor that lost most by being rounded to `dtype`; 0: nothing was lost. The
   * product of two factors is off by no more than the sum of theirs.
   */
  readonly worstRounding: number;
  /** What `rank` cost: `norm(cut off) / norm(sum)` of the module that lost most; null where nothing was cut off. */
  readonly worstTruncation: { readonly module: string; readonly error: number } | null;
  readonly silenced: readonly string[];
  readonly notes: readonly string[];
  readonly elapsedMs: number;
}

/**
 * Plans a merge. Every adapter counts with `ratio · alpha / rank`, once.
 *
 * Without a rank the merge is exact: the factors of all adapters stand side by side, and the rank of a module is the sum of
 * its ranks. With one, modules above it are cut down to their largest singular values; the others stay exact.
 *
 * @throws {DyloraError} as `collectTerms`; `E_RANK` for a rank that is no whole number of 1 or more
 */
export function planMerge(inputs: readonly MergeInput[], options: MergeOptions): MergePlan {
  const subject = "merge";
  const sum = collectTerms(inputs, subject);
  const dtype = options.dtype ?? commonDtype(sum.modules);
  const modules = sum.modules.map((module) => mergedModule(module, options));
  const date = options.date ?? new Date();
  const placeholders = inputs.map(() => "0".repeat(64));
  const metadata = mergedMetadata(inputs, placeholders, { modules, title: nameOf(options.path), date });
  const layout = layoutData(sum.modules.flatMap((module, i) => tensorSpecs(module, modules[i]!, dtype)));
  return {
    inputs,
    sum,
    path: options.path,
    dtype,
    modules,
    sizeBytes: buildHeader(layout, { ...metadata, ...HASH_PLACEHOLDERS }).length + layout.dataBytes,
    date,
    notes: [...sum.notes, ...oversizeNote(sum.modules, modules)],
  };
}

/**
 * Carries out a plan. The file appears, whole and on the disk, at the end; one module is in memory at a time.
 *
 * @throws {DyloraError} `E_EXISTS`, `E_WRITE`, `E_READ`, `E_INTERRUPTED`; `E_INCOMPATIBLE` for a number that `dtype` cannot
 *   hold
 */
export async function runMerge(plan: MergePlan, options: RunMergeOptions = {}): Promise<MergeReport> {
  const startMs = performance.now();
  const { inputs, path, dtype, modules, date } = plan;
  await checkOutput(
    "merge",
    path,
    inputs.map(({ adapter }) => adapter.path),
    options.overwrite ?? false,
  );
  const hashes: string[] = [];
  for (const { adapter } of inputs) hashes.push(await computeModelHash(adapter.file));
  const losses = new Losses(dtype);
  const sources = plan.sum.modules.map((module, i) => moduleSource(module, modules[i]!, losses));
  const { sizeBytes, dataSha256 } = await writeAdapter(path, sources, {
    metadata: mergedMetadata(inputs, hashes, { modules, title: nameOf(path), date }),
    dtype,
    overwrite: options.overwrite ?? false,
    ...(options.onProgress === undefined ? {} : { onProgress: options.onProgress }),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  return {
    path,
    sizeBytes,
    dataSha256,
    inputs: inputs.map(({ adapter, ratio }, i) => ({ path: adapter.path, ratio, dataSha256: hashes[i]! })),
    moduleCount: modules.length,
    ranks: rankRange(modules),
    dtype,
    worstRounding: losses.worstRounding,
    worstTruncation: losses.worstTruncation,
    silenced: plan.sum.silenced,
    notes: plan.notes,
    elapsedMs: performance.now() - startMs,
  };
}

export function rankRange(modules: readonly { readonly rank: number }[]): [number, number] {
  const ranks = modules.map(({ rank }) => rank);
  return [Math.min(...ranks), Math.max(...ranks)];
}

function mergedModule(module: MergeModule, options: MergeOptions): MergedModule {
  const { name, kind } = module;
  const wanted = (kind === "conv3x3" ? options.convRank : null) ?? options.rank ?? null;
  if (wanted !== null && !(Number.isSafeInteger(wanted) && wanted >= 1)) {
    throw new DyloraError("E_RANK", `merge: rank ${wanted} is no whole number of 1 or more`, {
      note: "Nothing was written.",
    });
  }
  const { rank, alpha } = concatenate(module);
  if (wanted === null || wanted >= rank) return { name, kind, rank, alpha, isTruncated: false };
  return { name, kind, rank: wanted, alpha: wanted, isTruncated: true };
}

function moduleSource(
  module: MergeModule,
  { rank, alpha, isTruncated }: MergedModule,
  losses: Losses,
): AdapterModuleSource {
  const { name, kind, inFeatures, outFeatures } = module;
  const facts = { name, kind, rank, alpha, inFeatures, outFeatures };
  if (!isTruncated) {
    const { factors } = concatenate(module);
    return {
      ...facts,
      down: async () => losses.measureRounding(await concatenatedDown(module)),
      upT: async () => losses.measureRounding(await concatenatedUpT(module, factors)),
    };
  }
  // Both factors come out of one decomposition, and are asked for one after the other.
  let pending: Promise<TruncatedModule> | null = null;
  const decompose = async () => {
    pending ??= truncatedFactors(module, rank);
    return pending;
  };
  return {
    ...facts,
    down: async () => {
      const { down, error } = await decompose();
      losses.addTruncation(name, error);
      return losses.measureRounding(down);
    },
    upT: async () => {
      const { upT } = await decompose();
      pending = null;
      return losses.measureRounding(upT);
    },
  };
}

/** What the output lacks of the exact sum. */
class Losses {
  worstRounding = 0;
  worstTruncation: { readonly module: string; readonly error: number } | null = null;
  readonly #dtype: WritableDtype;

  constructor(dtype: WritableDtype) {
    this.#dtype = dtype;
  }

  addTruncation(module: string, error: number): void {
    if (error >= (this.worstTruncation?.error ?? 0)) this.worstTruncation = { module, error };
  }

  /** @returns `values` */
  measureRounding(values: Float32Array): Float32Array {
    if (this.#dtype === "F32" || this.#dtype === "F64") return values;
    const written = decodeToFloat32(encodeFromFloat32(values, this.#dtype), this.#dtype);
    let lost = 0;
    let total = 0;
    for (let i = 0; i < values.length; i++) {
      lost += (written[i]! - values[i]!) ** 2;
      total += values[i]! ** 2;
    }
    if (total > 0) this.worstRounding = Math.max(this.worstRounding, Math.sqrt(lost / total));
    return values;
  }
}

function commonDtype(modules: readonly MergeModule[]): WritableDtype {
  const dtypes = new Set(
    modules.flatMap(({ terms }) => terms.flatMap(({ module }) => [module.down.dtype, module.up.dtype])),
  );
  const [dtype] = dtypes;
  return dtypes.size === 1 && isWritableDtype(dtype!) ? dtype : "F32";
}

function tensorSpecs(module: MergeModule, { rank, alpha }: MergedModule, dtype: WritableDtype): TensorSpec[] {
  const names = kohyaTensorNames(module.name);
  const kernel = module.kind === "linear" ? [] : module.kind === "conv1x1" ? [1, 1] : [3, 3];
  const upKernel = module.kind === "linear" ? [] : [1, 1];
  return [
    { name: names.alpha, dtype: encodeScalarAs(alpha, dtype).dtype, shape: [] },
    { name: names.down, dtype, shape: [rank, module.inFeatures, ...kernel] },
    { name: names.up, dtype, shape: [module.outFeatures, rank, ...upKernel] },
  ];
}

function oversizeNote(modules: readonly MergeModule[], merged: readonly MergedModule[]): string[] {
  const over = modules.filter(({ kind, inFeatures, outFeatures }, i) => {
    const inputs = inFeatures * (kind === "conv3x3" ? 9 : 1);
    return merged[i]!.rank > Math.min(inputs, outFeatures);
  });
  if (over.length === 0) return [];
  return [
    `${over.length} modules have a higher rank than their layer can use: --rank makes a smaller file of the same strength.`,
  ];
}
