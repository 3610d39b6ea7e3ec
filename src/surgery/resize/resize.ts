/** Lower ranks of any LoRA, as good as a rank can be: by singular value decomposition of every module's product. */
import type { Adapter, ModuleKind } from "../../adapter/index.js";
import { MODEL_HASH_KEY, type WritableDtype } from "../../safetensors/index.js";
import { writeOutputs } from "../svd/write-outputs.js";
import type { ResizeOutput, ResizePlan } from "./plan-resize.js";
import type { RankRule } from "./rank-rules.js";

export interface RunResizeOptions {
  /** Replace existing files. Default false: `E_EXISTS`, and nothing is written. */
  readonly overwrite?: boolean;
  /** Called after each module. */
  readonly onProgress?: (progress: { readonly doneModules: number; readonly totalModules: number }) => void;
  readonly signal?: AbortSignal;
}

export interface ResizedModule {
  readonly name: string;
  readonly kind: ModuleKind;
  readonly parentRank: number;
  readonly rank: number;
  /**
   * `‖P - P'‖ / ‖P‖` in the Frobenius norm, P being what the module adds to the weight: the tail of the singular values, the
   * smallest that the rank allows. Rounding the factors to the file's element type comes on top: some 3e-4 with F16.
   */
  readonly relativeError: number;
}

/** One file with what it loses. */
export interface ResizedFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly rule: RankRule;
  /** Lowest and highest. */
  readonly ranks: readonly [number, number];
  /** Of all modules together: `sqrt(Σ ‖P - P'‖² / Σ ‖P‖²)`. */
  readonly relativeError: number;
  readonly modules: readonly ResizedModule[];
}

export interface ResizeReport {
  readonly parent: {
    readonly path: string;
    readonly sizeBytes: number;
    readonly maxRank: number;
    /** SHA-256 of its tensors' data. */
    readonly dataSha256: string;
    /** Whether `sshs_model_hash` in its metadata is that hash; null where it has none. */
    readonly hashMatches: boolean | null;
  };
  readonly dtype: WritableDtype;
  readonly notes: readonly string[];
  readonly outputs: readonly (ResizedFile & { readonly dataSha256: string })[];
  readonly elapsedMs: number;
}

/**
 * Carries out a plan: one decomposition per module for all outputs. Either all of them appear, whole and on the disk, or none.
 *
 * @throws {DyloraError} as `writeOutputs`
 */
export async function resize(plan: ResizePlan, options: RunResizeOptions = {}): Promise<ResizeReport> {
  const startMs = performance.now();
  const { parent, outputs } = plan;
  const written = await writeOutputs(parent, outputs, {
    operation: "resize",
    rotateAll: false,
    overwrite: options.overwrite ?? false,
    onProgress: options.onProgress,
    signal: options.signal,
  });
  const stated = parent.metadata[MODEL_HASH_KEY];
  return {
    parent: {
      path: parent.path,
      sizeBytes: parent.file.sizeBytes,
      maxRank: parent.maxRank,
      dataSha256: written.parentSha256,
      hashMatches: stated === undefined ? null : stated === written.parentSha256,
    },
    dtype: plan.dtype,
    notes: plan.notes,
    outputs: outputs.map((output, i) => ({
      ...describeOutput(parent, output, written.singularValues),
      ...written.files[i]!,
    })),
    elapsedMs: performance.now() - startMs,
  };
}

/** What an output of a plan loses, where the plan was made with singular values. */
export function measureOutput(plan: ResizePlan, output: ResizeOutput): ResizedFile | null {
  return plan.singularValues === null ? null : describeOutput(plan.parent, output, plan.singularValues);
}

function describeOutput(
  parent: Adapter,
  { path, sizeBytes, rule, ranks }: ResizeOutput,
  singularValues: readonly Float64Array[],
): ResizedFile {
  let [lost, total] = [0, 0];
  const modules = parent.modules.map(({ name, kind, rank: parentRank }, i): ResizedModule => {
    const rank = ranks[i]!;
    const whole = energy(singularValues[i]!);
    const tail = energy(singularValues[i]!.subarray(rank));
    total += whole;
    lost += tail;
    return { name, kind, parentRank, rank, relativeError: ratio(tail, whole) };
  });
  return {
    path,
    sizeBytes,
    rule,
    ranks: [Math.min(...ranks), Math.max(...ranks)],
    relativeError: ratio(lost, total),
    modules,
  };
}

function energy(singularValues: Float64Array): number {
  return singularValues.reduce((sum, value) => sum + value ** 2, 0);
}

/** Of two energies, as norms; 0 of nothing. */
function ratio(part: number, whole: number): number {
  return whole === 0 ? 0 : Math.sqrt(part / whole);
}
