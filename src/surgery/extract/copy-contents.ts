/** What an extracted copy holds: of every tensor the part that belongs to its module's rank, and alphas for these ranks. */
import {
  type Adapter,
  type AlphaRule,
  encodeScalarAs,
  kohyaTensorNames,
  type LoraModule,
} from "../../adapter/index.js";
import { type Dtype, elementBytes, type TensorInfo, type TensorSpec } from "../../safetensors/index.js";
import { extractedAlpha } from "./alpha-rule.js";
import type { CopyDtype } from "./cast-values.js";

/** What a copy takes of one tensor of its parent: of the first `rows` rows, the first `rowBytes` bytes. */
export interface TensorPrefix {
  readonly parent: TensorInfo;
  readonly parentRows: number;
  /** What the copy has it in: the parent's type, or the one that it is converted to. */
  readonly dtype: Dtype;
  readonly rows: number;
  /** In `dtype`. */
  readonly rowBytes: number;
}

/** Under the names that the parent's tensors have. */
export interface CopyContents {
  readonly specs: readonly TensorSpec[];
  readonly contents: ReadonlyMap<string, TensorPrefix | Uint8Array>;
  readonly modules: readonly CopiedModule[];
}

export interface CopiedModule {
  readonly module: LoraModule;
  readonly rank: number;
  readonly alpha: number;
}

export interface CopyRules {
  readonly alphaRule: AlphaRule;
  readonly unit: number;
  readonly dtype: CopyDtype | null;
}

/** @param rankOf - never above the module's own; 0 leaves the module out */
export function copyContents(
  { dialect, modules }: Pick<Adapter, "dialect" | "modules">,
  rankOf: (module: LoraModule, index: number) => number,
  { alphaRule, unit, dtype }: CopyRules,
): CopyContents {
  const contents = new Map<string, TensorPrefix | Uint8Array>();
  const specs: TensorSpec[] = [];
  const copied: CopiedModule[] = [];
  for (const [index, module] of modules.entries()) {
    const rank = rankOf(module, index);
    if (rank === 0) continue;
    const { down, up, alphaTensor } = module;
    const downDtype = dtype ?? down.dtype;
    const downRowElements = down.shape.slice(1).reduce((a, b) => a * b, 1);
    contents.set(down.name, {
      parent: down,
      parentRows: module.rank,
      dtype: downDtype,
      rows: rank,
      rowBytes: downRowElements * elementBytes(downDtype)!,
    });
    specs.push({ name: down.name, dtype: downDtype, shape: [rank, ...down.shape.slice(1)] });

    const upDtype = dtype ?? up.dtype;
    const rows = module.outFeatures;
    contents.set(up.name, {
      parent: up,
      parentRows: rows,
      dtype: upDtype,
      rows,
      rowBytes: rank * elementBytes(upDtype)!,
    });
    specs.push({ name: up.name, dtype: upDtype, shape: [rows, rank, ...up.shape.slice(2)] });

    const alpha = extractedAlpha(alphaRule, { alpha: module.alpha, rank: module.rank, unit }, rank);
    copied.push({ module, rank, alpha });
    // The other dialects keep alphas elsewhere, see copy-files.ts.
    if (dialect !== "kohya") continue;
    // A parent without alpha means alpha = its rank; left out, the copy would mean its own, lower rank.
    const wantedDtype = dtype ?? alphaTensor?.dtype ?? down.dtype;
    const name = alphaTensor?.name ?? kohyaTensorNames(module.name).alpha;
    const encoded = encodeScalarAs(alpha, wantedDtype);
    contents.set(name, encoded.bytes);
    specs.push({ name, dtype: encoded.dtype, shape: alphaTensor?.shape ?? [] });
  }
  return { contents, specs, modules: copied };
}

/** Bytes of one component in both factors. */
export function bytesPerRank(
  { down, up, outFeatures }: LoraModule,
  { dtype }: Pick<CopyRules, "dtype">,
): number {
  const inputs = down.shape.slice(1).reduce((a, b) => a * b, 1);
  return inputs * elementBytes(dtype ?? down.dtype)! + outFeatures * elementBytes(dtype ?? up.dtype)!;
}
