/**
 * The arithmetic on one module, or on a pair, as functions from plain data to plain data: they run on any thread.
 *
 * Factors come as they are in the file, so that decoding them is part of the work that is spread over threads. Every thread loads this
 * module and what it imports, which is why that is little.
 */
import { transpose } from "../../adapter/factors.js";
import { DyloraError } from "../../errors.js";
import {
  type LowRankFactors,
  type NumberFormat,
  productSingularValues,
  productSvd,
  StoredValues,
} from "../../linalg/index.js";
import {
  decodeToFloat32,
  encodeFromFloat32,
  findNonFinite,
  type WritableDtype,
} from "../../safetensors/codecs.js";
import type { Dtype } from "../../safetensors/dtype.js";
import { compareProducts, type ProductComparison } from "./compare-products.js";
import { type PrefixProducts, prefixProducts } from "./product-energy.js";

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
    onFinite([module], factorsOf, ([factors]) => productSingularValues(factors!, module.rank)),

  /** Norms of the prefixes of `up · down`, without alpha. Factors that are not finite give norms that are not. */
  prefixes: (module: ModuleBytes): PrefixProducts => prefixProducts(factorsOf(module), module.rank),

  /** The best approximations of lower ranks, or at its own rank the same product with its components in order. */
  truncate({ module, ranks, dtype }: TruncateJob): TruncateResult {
    const svd = onFinite([module], factorsOf, ([factors]) =>
      productSvd(factors!, module.rank, Math.max(...ranks)),
    );
    const { singularValues } = svd;
    // No element is larger than the norm of its component.
    const checked = Math.sqrt(singularValues[0]!) < SMALLEST_RANGE ? null : module.subject;
    const factors = ranks.map((rank) => {
      if (isFormat(dtype) && checked === null) return svd.truncateTo(dtype, rank);
      const { down, upT } = svd.truncate(rank);
      const up = transpose(upT, rank, module.outFeatures);
      return { down: encode(down, dtype, checked), up: encode(up, dtype, checked) };
    });
    return { singularValues, factors };
  },

  compare: ({ a, b, scaleA, scaleB }: CompareJob): ProductComparison =>
    onFinite([a, b], decodeFactors, ([factorsA, factorsB]) =>
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
function onFinite<Factors extends LowRankFactors, Result>(
  modules: readonly ModuleBytes[],
  decode: (module: ModuleBytes) => Factors,
  compute: (factors: Factors[]) => Result,
): Result {
  const factors = modules.map(decode);
  try {
    return compute(factors);
  } catch (error) {
    const notFinite = modules.find(
      ({ down, downDtype, up, upDtype }) =>
        findNonFinite(down, downDtype) >= 0 || findNonFinite(up, upDtype) >= 0,
    );
    if (notFinite === undefined) throw error;
    throw new DyloraError("E_FORMAT", `${notFinite.subject} holds infinity or NaN`, {
      note: "The file was not changed. A training run that diverged writes such files.",
      cause: error,
    });
  }
}

/** The usual types stay what they are: the decomposition converts and transposes them as it goes. */
function factorsOf(module: ModuleBytes): LowRankFactors {
  const { down, downDtype, up, upDtype } = module;
  if (!isFormat(downDtype) || !isFormat(upDtype)) return decodeFactors(module);
  return { down: new StoredValues(down, downDtype), upT: new StoredValues(up, upDtype, true) };
}

function isFormat(dtype: Dtype): dtype is NumberFormat {
  return dtype === "F16" || dtype === "BF16" || dtype === "F32";
}

function decodeFactors({ down, downDtype, up, upDtype, outFeatures, rank }: ModuleBytes) {
  return {
    down: decodeToFloat32(down, downDtype),
    upT: transpose(decodeToFloat32(up, upDtype), outFeatures, rank),
  };
}

/** The smallest range of all types that are written: F8_E4M3's. */
const SMALLEST_RANGE = 448;

/** @param subject - for the error where an element may be too large; null where none can be */
function encode(values: Float32Array, dtype: WritableDtype, subject: string | null): Uint8Array {
  const bytes = encodeFromFloat32(values, dtype);
  const index = subject === null ? -1 : findNonFinite(bytes, dtype);
  if (index < 0) return bytes;
  throw new DyloraError("E_INCOMPATIBLE", `${subject}: ${values[index]} is too large for ${dtype}`, {
    note: "Nothing was written. Choose a type of wider range with --dtype: BF16 or F32.",
  });
}
