/** Turns an ordinary LoRA into a nested one, whose prefix of every rank is the best approximation of that rank. */
import { basename } from "node:path";
import type { Adapter } from "../../adapter/index.js";
import { DyloraError } from "../../errors.js";
import type { WritableDtype } from "../../safetensors/index.js";
import { planSvdOutput, type SvdOutput } from "../svd/output-plan.js";
import { writeOutputs } from "../svd/write-outputs.js";

export interface NestOptions {
  readonly path: string;
  /**
   * Default F32. The new factors are no longer the numbers that were rounded to 16 bits once: rounding them again costs a
   * relative error of some 3e-4 with F16.
   */
  readonly dtype?: WritableDtype;
  /** For the metadata. Default: now. */
  readonly date?: Date;
}

export interface NestPlan {
  readonly parent: Adapter;
  readonly output: SvdOutput;
}

export interface RunNestOptions {
  /** Replace an existing file. Default false: `E_EXISTS`, and nothing is written. */
  readonly overwrite?: boolean;
  /** Called after each module. */
  readonly onProgress?: (progress: { readonly doneModules: number; readonly totalModules: number }) => void;
  readonly signal?: AbortSignal;
}

export interface NestReport {
  readonly path: string;
  readonly sizeBytes: number;
  readonly dataSha256: string;
  readonly dtype: WritableDtype;
  readonly maxRank: number;
  readonly moduleCount: number;
  readonly parent: { readonly path: string; readonly dataSha256: string };
  /** Element b - 1: `sqrt(Σ ‖P - P_b‖² / Σ ‖P‖²)` over all modules, P_b being the prefix of rank b: what `extract` loses there. */
  readonly relativeErrorAtRank: readonly number[];
  readonly elapsedMs: number;
}

/**
 * Plans the rotation of every product into components ordered by energy; the product itself stays.
 *
 * Ranks and alphas stay as they are. The metadata say `networks.dylora`, unit 1 and alpha rule `keep`, so that `extract` gives
 * every prefix the scale alpha / R of the full rank, R: the prefix then is the best approximation of the product, at its
 * strength.
 *
 * @throws {DyloraError} `E_INCOMPATIBLE` for a file without modules
 */
export function planNest(parent: Adapter, { path, dtype = "F32", date = new Date() }: NestOptions): NestPlan {
  if (parent.modules.length === 0) {
    throw new DyloraError("E_INCOMPATIBLE", `nest ${parent.path}: the file has no LoRA modules`, {
      note: "Nothing was written.",
    });
  }
  const output = planSvdOutput(parent, {
    path,
    dtype,
    ranks: parent.modules.map(({ rank }) => rank),
    operation: { name: "nest" },
    nested: true,
    title: basename(path).replace(/\.safetensors$/i, ""),
    date,
  });
  return { parent, output };
}

/** Carries out a plan. @throws {DyloraError} as `writeOutputs` */
export async function nest({ parent, output }: NestPlan, options: RunNestOptions = {}): Promise<NestReport> {
  const startMs = performance.now();
  const { files, parentSha256, singularValues } = await writeOutputs(parent, [output], {
    operation: "nest",
    rotateAll: true,
    overwrite: options.overwrite ?? false,
    onProgress: options.onProgress,
    signal: options.signal,
  });
  return {
    ...files[0]!,
    dtype: output.dtype,
    maxRank: parent.maxRank,
    moduleCount: parent.modules.length,
    parent: { path: parent.path, dataSha256: parentSha256 },
    relativeErrorAtRank: errorsAtRanks(singularValues, parent.maxRank),
    elapsedMs: performance.now() - startMs,
  };
}

function errorsAtRanks(singularValues: readonly Float64Array[], maxRank: number): number[] {
  const energies = new Float64Array(maxRank);
  for (const values of singularValues) {
    for (let j = 0; j < values.length; j++) energies[j] = energies[j]! + values[j]! ** 2;
  }
  // From the end: sums of small numbers stay exact beside large ones.
  const tails = new Float64Array(maxRank + 1);
  for (let j = maxRank - 1; j >= 0; j--) tails[j] = tails[j + 1]! + energies[j]!;
  const total = tails[0]!;
  return Array.from(tails.subarray(1), (tail) => (total === 0 ? 0 : Math.sqrt(tail / total)));
}
