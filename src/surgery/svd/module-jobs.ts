/**
 * The arithmetic on one module, or on a pair, as functions from plain data to plain data: they run on any thread.
 *
 * Factors come as they are in the file, so that decoding them is part of the work that is spread over threads.
 */
import { transpose } from "../../adapter/index.js";
import { DyloraError } from "../../errors.js";
import { type LowRankFactors, productSingularValues, productSvd } from "../../linalg/index.js";
import {
  type Dtype,
  decodeToFloat32,
  encodeFromFloat32,
  findNonFinite,
  type WritableDtype,
} from "../../safetensors/index.js";
import { compareProducts, type ProductComparison } from "./compare-products.js";

/** One module as it is in its file. */
export interface ModuleBytes {
  /** For errors: file and module. */
  readonly subject: string;
  readonly rank: number;
  readonly outFeatures: number;
  readonly down: Uint8Array;
  readonly downDtype: Dtype;
  readonly up: Uint8Array;
  readonly upDtype: Dtype;
}

export interface TruncateJob {
  readonly module: ModuleBytes;
  /** The ranks to cut off at; at most the module's. */
  readonly ranks: readonly number[];
  /** Of the results. */
  readonly dtype: WritableDtype;
}

export interface TruncateResult {
  /** Of `up · down`, without alpha, descending. */
  readonly singularValues: Float64Array;
  /** By rank: both factors as bytes of a file, `down` `[k, I]`, `up` `[O, k]`. */
  readonly factors: readonly { readonly down: Uint8Array; readonly up: Uint8Array }[];
}

export interface CompareJob {
  readonly a: ModuleBytes;
  readonly b: ModuleBytes;
  /** What a loader multiplies the products with. */
  readonly scaleA: number;
  readonly scaleB: number;
}

export const MODULE_JOBS = {
  /** The singular values of `up · down`, without alpha, descending. */
  spectrum: (module: ModuleBytes): Float64Array =>
    onFinite([module], ([factors]) => productSingularValues(factors!, module.rank)),

  /** The best approximations of lower ranks, or at its own rank the same product with its components in order. */
  truncate({ module, ranks, dtype }: TruncateJob): TruncateResult {
    const svd = onFinite([module], ([factors]) => productSvd(factors!, module.rank));
    const { singularValues } = svd;
    const encode = encoder(dtype, Math.sqrt(singularValues[0]!), module);
    const factors = ranks.map((rank) => {
      const { down, upT } = svd.truncate(rank);
      return { down: encode(down), up: encode(transpose(upT, rank, module.outFeatures)) };
    });
    return { singularValues, factors };
  },

  compare: ({ a, b, scaleA, scaleB }: CompareJob): ProductComparison =>
    onFinite([a, b], ([factorsA, factorsB]) =>
      compareProducts(
        { factors: factorsA!, rank: a.rank, scale: scaleA },
        { factors: factorsB!, rank: b.rank, scale: scaleB },
      ),
    ),
};

export type JobName = keyof typeof MODULE_JOBS;
export type JobInput<Name extends JobName> = Parameters<(typeof MODULE_JOBS)[Name]>[0];
export type JobResult<Name extends JobName> = ReturnType<(typeof MODULE_JOBS)[Name]>;

/**
 * Computes with decoded factors.
 *
 * @throws {DyloraError} `E_FORMAT` where they are not finite. That is looked for only when the arithmetic fails: it always does
 *   then, and looking takes as long as decoding.
 */
function onFinite<Result>(
  modules: readonly ModuleBytes[],
  compute: (factors: LowRankFactors[]) => Result,
): Result {
  const factors = modules.map(decodeFactors);
  try {
    return compute(factors);
  } catch (error) {
    const index = factors.findIndex(({ down, upT }) => !(allFinite(down) && allFinite(upT)));
    if (index < 0) throw error;
    throw new DyloraError("E_FORMAT", `${modules[index]!.subject} holds infinity or NaN`, {
      note: "The file was not changed. A training run that diverged writes such files.",
      cause: error,
    });
  }
}

function decodeFactors(module: ModuleBytes): LowRankFactors {
  const up = decodeToFloat32(module.up, module.upDtype);
  return {
    down: decodeToFloat32(module.down, module.downDtype),
    upT: transpose(up, module.outFeatures, module.rank),
  };
}

function allFinite(values: LowRankFactors["down"]): boolean {
  return values.every((value) => Number.isFinite(value));
}

/** The smallest range of all types that are written: F8_E4M3's. */
const SMALLEST_RANGE = 448;

/** @param bound - no element is larger */
function encoder(
  dtype: WritableDtype,
  bound: number,
  { subject }: ModuleBytes,
): (values: Float32Array) => Uint8Array {
  return (values) => {
    const bytes = encodeFromFloat32(values, dtype);
    const index = bound < SMALLEST_RANGE ? -1 : findNonFinite(bytes, dtype);
    if (index < 0) return bytes;
    throw new DyloraError("E_INCOMPATIBLE", `${subject}: ${values[index]} is too large for ${dtype}`, {
      note: "Nothing was written. Choose a type of wider range with --dtype: BF16 or F32.",
    });
  };
}
