/** A file of new factors before they are computed: its exact layout and size, from the modules' ranks alone. */
import { type Adapter, encodeScalarAs, kohyaTensorNames, type LoraModule } from "../../adapter/index.js";
import { DyloraError } from "../../errors.js";
import {
  buildHeader,
  type DataLayout,
  HASH_PLACEHOLDERS,
  isWritableDtype,
  layoutData,
  type TensorSpec,
  type WritableDtype,
} from "../../safetensors/index.js";
import { type ResizedFacts, resizedMetadata } from "../common/resized-metadata.js";

export interface SvdOutput {
  readonly path: string;
  readonly dtype: WritableDtype;
  /** By module, in the parent's order. */
  readonly ranks: readonly number[];
  readonly alphas: readonly number[];
  readonly sizeBytes: number;
  readonly layout: DataLayout;
  /** Without the `sshs_` hashes. */
  readonly metadata: Readonly<Record<string, string>>;
  /** By tensor name: the alphas. */
  readonly constants: ReadonlyMap<string, Uint8Array>;
}

export type SvdOutputFacts = Pick<SvdOutput, "path" | "dtype" | "ranks"> &
  Pick<ResizedFacts, "operation" | "nested" | "title" | "date">;

/** Alpha shrinks with the rank, so that a loader's `alpha / rank`, and with it the strength, stays. */
export function planSvdOutput(parent: Adapter, facts: SvdOutputFacts): SvdOutput {
  const { path, dtype, ranks } = facts;
  const constants = new Map<string, Uint8Array>();
  const specs: TensorSpec[] = [];
  const alphas = parent.modules.map((module, i) => (module.alpha * ranks[i]!) / module.rank);
  for (const [i, module] of parent.modules.entries()) {
    const { down, up, alphaTensor } = module;
    const names = outputNames(module, parent.path);
    const alpha = encodeScalarAs(alphas[i]!, dtype);
    constants.set(names.alpha, alpha.bytes);
    specs.push(
      // Written where the parent has none, too: left out, it would mean the new rank.
      { name: names.alpha, dtype: alpha.dtype, shape: alphaTensor?.shape ?? [] },
      { name: names.down, dtype, shape: [ranks[i]!, ...down.shape.slice(1)] },
      { name: names.up, dtype, shape: [module.outFeatures, ranks[i]!, ...up.shape.slice(2)] },
    );
  }
  const layout = layoutData(specs);
  const metadata = resizedMetadata(parent.metadata, {
    ...facts,
    modules: parent.modules.map(({ kind }, i) => ({ kind, rank: ranks[i]!, alpha: alphas[i]! })),
    parentRank: parent.maxRank,
  });
  return {
    path,
    dtype,
    ranks,
    alphas,
    sizeBytes: buildHeader(layout, { ...metadata, ...HASH_PLACEHOLDERS }).length + layout.dataBytes,
    layout,
    metadata,
    constants,
  };
}

/** The type that all factors share; F32 where they differ or cannot be written. */
export function commonDtype(modules: readonly LoraModule[]): WritableDtype {
  const dtypes = new Set(modules.flatMap(({ down, up }) => [down.dtype, up.dtype]));
  const [dtype] = dtypes;
  return dtypes.size === 1 && isWritableDtype(dtype!) ? dtype : "F32";
}

/**
 * kohya's names, whatever the parent's dialect: every loader reads them.
 *
 * @throws {DyloraError} `E_INCOMPATIBLE` for a module that has none
 */
export function outputNames({ name }: LoraModule, path: string): ReturnType<typeof kohyaTensorNames> {
  if (/^lora_(?:unet|te[12]?)_[^.]+$/.test(name)) return kohyaTensorNames(name);
  throw new DyloraError(
    "E_INCOMPATIBLE",
    `${path}: module ${name} has no name in kohya's dialect, in which the result would be written`,
    { note: "Nothing was written." },
  );
}
