/** Makes a LoRA out of two checkpoints: what fine-tuning changed, module by module, as factors of a low rank. */
import { type Component, type ModuleKind, writeAdapter } from "../../adapter/index.js";
import { DyloraError } from "../../errors.js";
import type { WritableDtype } from "../../safetensors/index.js";
import { type ModelPartName, type ModelWeights, openModelWeights } from "../merge/model.js";
import { checkOutput } from "../merge/output.js";
import { type ChangedTarget, DiffJob, relativeChange } from "./job.js";
import { diffMetadata } from "./metadata.js";
import { measureDifferences, pairWeights, type WeightDifference, WeightReader } from "./weights.js";

export interface DiffRank {
  /** Rank of every module, or the highest one where `energy` is given. */
  readonly rank: number;
  /** The same for 3x3 convolutions. Default: `rank`. */
  readonly convRank?: number | null;
  /** Share of a module's squared norm that its factors must keep, above 0, at most 1: the lowest such rank is taken. */
  readonly energy?: number | null;
}

export interface DiffOptions extends DiffRank {
  /** The file to write. */
  readonly path: string;
  /** Modules whose largest change of any element is below this are left out, and listed. Default 0: none is. */
  readonly minDiff?: number;
  /** Default F16. */
  readonly dtype?: WritableDtype;
  /** Replace an existing file. Default false: `E_EXISTS`, before anything is read. */
  readonly overwrite?: boolean;
  /** Compare only: nothing is decomposed or written, and the modules of the report have no errors. Default false. */
  readonly dryRun?: boolean;
  /** For the metadata. Default: now. */
  readonly date?: Date;
  readonly onProgress?: (progress: DiffProgress) => void;
  readonly signal?: AbortSignal;
}

export type DiffProgress =
  | { readonly phase: "compare"; readonly doneBytes: number; readonly totalBytes: number }
  | { readonly phase: "decompose"; readonly doneModules: number; readonly totalModules: number };

export interface DiffModule {
  readonly name: string;
  readonly component: Component;
  readonly kind: ModuleKind;
  /** Null in a dry run with `energy`. */
  readonly rank: number | null;
  /** `norm(tuned - base) / norm(base)`; null where the base's weight is zero. */
  readonly relativeChange: number | null;
  /** `norm(tuned - base - product) / norm(tuned - base)`, before rounding to the file's type; null in a dry run. */
  readonly error: number | null;
}

/** A weight that differs and that no LoRA module can hold, or a module that was left out. */
export interface ListedWeight {
  readonly part: ModelPartName;
  /** Canonical name. */
  readonly name: string;
  /** As in `DiffModule`. */
  readonly relativeChange: number | null;
  /** Largest magnitude of any element of the difference. */
  readonly maxAbs: number;
}

export interface DiffReport {
  readonly basePath: string;
  readonly tunedPath: string;
  /** Null in a dry run. */
  readonly output: { readonly path: string; readonly sizeBytes: number; readonly dataSha256: string } | null;
  readonly modules: readonly DiffModule[];
  /** Modules that are the same in both. */
  readonly unchangedCount: number;
  /** Modules below `minDiff`, which are left out. */
  readonly belowMinDiff: readonly ListedWeight[];
  /** Modules of the file whose whole change may be rounding: the checkpoints are stored in different types. */
  readonly withinRounding: readonly ListedWeight[];
  /** What differs and is no LoRA module: norms, biases, embeddings, the first and last layers, the VAE. */
  readonly notRepresented: readonly ListedWeight[];
  /** `norm` of what is not represented or left out, against the norm of all that differs in U-Net and text encoders: 0 to 1. */
  readonly unheldShare: number;
  /** Parts that only one checkpoint has. */
  readonly unpaired: readonly ModelPartName[];
  /** `norm(lost) / norm(change)` over all modules of the file; null in a dry run. */
  readonly error: number | null;
  readonly elapsedMs: number;
}

/**
 * Compares two checkpoints and writes the difference of every linear layer and convolution as a LoRA.
 *
 * Both are read twice: once to see what differs, and once for the decompositions, one module at a time. With `energy`, whose
 * ranks are known only afterwards, the factors are in memory until they are written.
 *
 * @throws {DyloraError} `E_INCOMPATIBLE` for models of different structure, or the same weights in both; `E_USAGE` for ranks
 *   and shares that are none; `E_EXISTS`, `E_WRITE`, `E_READ`, `E_INTERRUPTED`; what `openModelWeights` throws
 */
export async function diffCheckpoints(
  basePath: string,
  tunedPath: string,
  options: DiffOptions,
): Promise<DiffReport> {
  const startMs = performance.now();
  checkRank(options);
  const subject = `diff ${basePath} ${tunedPath}`;
  if (options.dryRun !== true) {
    await checkOutput("diff", options.path, [basePath, tunedPath], options.overwrite ?? false);
  }
  const [base, tuned] = [await openModelWeights(basePath), await openModelWeights(tunedPath)];
  const reader = new WeightReader();
  try {
    const { pairs, unpaired } = pairWeights(base, tuned);
    const differences = await measureDifferences(reader, pairs, {
      onProgress: (progress) => options.onProgress?.({ phase: "compare", ...progress }),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    const sorted = sortDifferences(base, differences, options.minDiff ?? 0);
    if (sorted.changed.length === 0) throw nothingToWrite(subject, sorted);
    const job = new DiffJob(reader, sorted.changed, options, subject);
    const written = options.dryRun === true ? null : await writeDifference(job, base, tuned, options);
    return {
      basePath,
      tunedPath,
      output: written,
      modules: job.modules(),
      unchangedCount: sorted.unchangedCount,
      belowMinDiff: sorted.belowMinDiff.map(listed),
      withinRounding: sorted.changed
        .map(({ difference }) => difference)
        .filter(({ norm, roundingNorm }) => norm <= roundingNorm)
        .map(listed),
      notRepresented: sorted.notRepresented.map(listed),
      unheldShare: unheldShare(sorted),
      unpaired,
      error: written === null ? null : job.totalError(),
      elapsedMs: performance.now() - startMs,
    };
  } finally {
    await reader.close();
  }
}

interface SortedDifferences {
  readonly changed: readonly ChangedTarget[];
  readonly belowMinDiff: readonly WeightDifference[];
  readonly notRepresented: readonly WeightDifference[];
  /** LoRA targets that are the same in both. */
  readonly unchangedCount: number;
}

function sortDifferences(
  base: ModelWeights,
  differences: readonly WeightDifference[],
  minDiff: number,
): SortedDifferences {
  const targets = new Map(base.targets.map((target) => [`${target.component} ${target.weightName}`, target]));
  const changed: ChangedTarget[] = [];
  const belowMinDiff: WeightDifference[] = [];
  const notRepresented: WeightDifference[] = [];
  let unchangedCount = 0;
  for (const difference of differences) {
    const target = targets.get(`${difference.part} ${difference.name}`);
    if (difference.maxAbs === 0) unchangedCount += target === undefined ? 0 : 1;
    else if (target === undefined) notRepresented.push(difference);
    else if (difference.maxAbs < minDiff) belowMinDiff.push(difference);
    else changed.push({ target, difference });
  }
  return { changed, belowMinDiff, notRepresented, unchangedCount };
}

/** The VAE makes pictures out of latents: it is no part of what a LoRA changes. */
function unheldShare({ changed, belowMinDiff, notRepresented }: SortedDifferences): number {
  const energy = (differences: readonly WeightDifference[]) =>
    differences.reduce((sum, { part, norm }) => sum + (part === "vae" ? 0 : norm ** 2), 0);
  const unheld = energy([...belowMinDiff, ...notRepresented]);
  return Math.sqrt(unheld / (unheld + energy(changed.map(({ difference }) => difference))));
}

async function writeDifference(job: DiffJob, base: ModelWeights, tuned: ModelWeights, options: DiffOptions) {
  const sources = await job.sources();
  const { path, sizeBytes, dataSha256 } = await writeAdapter(options.path, sources, {
    metadata: await diffMetadata(base, tuned, sources, options),
    dtype: options.dtype ?? "F16",
    overwrite: options.overwrite ?? false,
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  return { path, sizeBytes, dataSha256 };
}

function listed({ part, name, norm, baseNorm, maxAbs }: WeightDifference): ListedWeight {
  return { part, name, relativeChange: relativeChange({ norm, baseNorm }), maxAbs };
}

function checkRank({ rank, convRank, energy, minDiff }: DiffOptions): void {
  for (const value of [rank, convRank ?? 1]) {
    if (Number.isSafeInteger(value) && value >= 1) continue;
    throw usage("E_RANK", `diff: rank ${value} is no whole number of 1 or more`);
  }
  if (energy != null && !(energy > 0 && energy <= 1)) {
    throw usage("E_USAGE", `diff: the share of the energy is ${energy}, not above 0 and at most 1`);
  }
  if (minDiff !== undefined && !(minDiff >= 0))
    throw usage("E_USAGE", `diff: the smallest difference is ${minDiff}`);
}

function usage(code: "E_USAGE" | "E_RANK", message: string): DyloraError {
  return new DyloraError(code, message, { note: "Nothing was written." });
}

function nothingToWrite(subject: string, { belowMinDiff, notRepresented }: SortedDifferences): DyloraError {
  const what =
    belowMinDiff.length > 0
      ? `every module that differs is below the smallest difference asked for`
      : notRepresented.length > 0
        ? `only weights differ that a LoRA cannot hold (${notRepresented[0]!.name} and so on)`
        : `both have the same weights`;
  return new DyloraError("E_INCOMPATIBLE", `${subject}: ${what}`, { note: "Nothing was written." });
}
