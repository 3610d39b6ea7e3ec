/** Writes factors as a LoRA file with kohya's names, which every loader reads. */
import { DyloraError, internalError } from "../errors.js";
import {
  encodeFromFloat32,
  findNonFinite,
  type TensorSource,
  type WritableDtype,
  type WriteOptions,
  type WriteResult,
  writeSafetensors,
} from "../safetensors/index.js";
import { kohyaTensorNames } from "./dialects/index.js";
import { transpose } from "./factors.js";
import type { ModuleKind } from "./module.js";
import { encodeScalarAs } from "./scalar.js";

/** A factor, or a function that fetches it when it is its turn to be written. */
export type FactorSource = Float32Array | (() => Promise<Float32Array>);

/** A module to be written. Axes: `R` rank, `I` input features, `O` output features. */
export interface AdapterModuleSource {
  /** kohya's name: `lora_unet_…`, `lora_te_…`. */
  readonly name: string;
  readonly kind: ModuleKind;
  readonly rank: number;
  readonly alpha: number;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** `[R, I]`; conv3x3 `[R, I, 3, 3]`. */
  readonly down: FactorSource;
  /** `[R, O]`: the transposed up factor. */
  readonly upT: FactorSource;
}

export interface WriteAdapterOptions extends Omit<WriteOptions, "metadata" | "hashes"> {
  readonly metadata: Readonly<Record<string, string>>;
  /** `F16`, `BF16`, `F32`, … for both factors; alpha too, unless it would be rounded. */
  readonly dtype: WritableDtype;
}

/**
 * Writes an adapter, with `sshs_model_hash` and `sshs_legacy_hash` added to the metadata.
 *
 * @throws {DyloraError} `E_DIVERGED` for a factor that holds infinity or NaN, `E_INCOMPATIBLE` for one that `dtype` cannot
 *   hold; otherwise as `writeSafetensors`
 */
export async function writeAdapter(
  path: string,
  modules: readonly AdapterModuleSource[],
  options: WriteAdapterOptions,
): Promise<WriteResult> {
  const { dtype, ...writeOptions } = options;
  const sources = modules.flatMap((module) => tensorSources(module, dtype, path));
  return writeSafetensors(path, sources, { ...writeOptions, hashes: true });
}

function tensorSources(module: AdapterModuleSource, dtype: WritableDtype, path: string): TensorSource[] {
  const { name, kind, rank, inFeatures, outFeatures } = module;
  const names = kohyaTensorNames(name);
  const kernel = kind === "linear" ? [] : kind === "conv1x1" ? [1, 1] : [3, 3];
  const upKernel = kind === "linear" ? [] : [1, 1];
  const alpha = encodeScalarAs(module.alpha, dtype);
  const encode = (values: Float32Array, tensorName: string) => encodeFactor(values, dtype, tensorName, path);
  return [
    { name: names.alpha, dtype: alpha.dtype, shape: [], data: () => alpha.bytes },
    {
      name: names.down,
      dtype,
      shape: [rank, inFeatures, ...kernel],
      data: async () => {
        const elements = rank * inFeatures * (kernel[0] ?? 1) ** 2;
        return encode(await fetchFactor(module.down, elements, names.down), names.down);
      },
    },
    {
      name: names.up,
      dtype,
      shape: [outFeatures, rank, ...upKernel],
      data: async () => {
        const upT = await fetchFactor(module.upT, rank * outFeatures, names.up);
        return encode(transpose(upT, rank, outFeatures), names.up);
      },
    },
  ];
}

async function fetchFactor(source: FactorSource, elements: number, name: string): Promise<Float32Array> {
  const values = typeof source === "function" ? await source() : source;
  if (values.length !== elements)
    throw internalError(`${name}: ${values.length} of ${elements} elements were given`);
  return values;
}

function encodeFactor(values: Float32Array, dtype: WritableDtype, name: string, path: string): Uint8Array {
  const bytes = encodeFromFloat32(values, dtype);
  const index = findNonFinite(bytes, dtype);
  if (index < 0) return bytes;
  const value = values[index]!;
  if (Number.isFinite(value)) {
    throw new DyloraError("E_INCOMPATIBLE", `write ${path}: ${name} holds ${value}, too large for ${dtype}`, {
      note: "Nothing was written. Save with a type of wider range: BF16 or F32.",
    });
  }
  throw new DyloraError("E_DIVERGED", `write ${path}: ${name} holds ${value}`, {
    note: "Nothing was written. Go back to the last good state and train with a lower learning rate.",
  });
}
