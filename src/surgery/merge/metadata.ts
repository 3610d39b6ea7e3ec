/** The metadata of a merged file: the first adapter's, with the network put right, and where everything came from. */
import { basename } from "node:path";
import { ADAPTER_METADATA_KEY } from "../../adapter/adapter-metadata.js";
import { localIsoDate, NETWORK_ARGS_KEY, pythonFloat, writeNetworkArgs } from "../../adapter/index.js";
import { MODEL_HASH_KEY } from "../../safetensors/index.js";
import type { MergeInput } from "./terms.js";

/** JSON: a list of `{ name, ratio, blockWeights?, sshs_model_hash }`, in the order of the merge. */
export const MERGED_FROM_KEY = "dylora_merged_from";

/** sd-scripts' and Stability AI's key: the names, separated by commas. */
const MODEL_SPEC_MERGED_FROM = "modelspec.merged_from";

/** What `ss_network_dim` and `ss_network_alpha` say where modules differ (sd-scripts' word). */
const VARYING = "Dynamic";

/** Values of a parent that are wrong for anything made from it: hashes, and how the parent itself was made. */
function isStaleKey(key: string): boolean {
  return (
    key.startsWith("sshs_") ||
    key.startsWith("dylora_") ||
    key === "modelspec.hash_sha256" ||
    key === ADAPTER_METADATA_KEY
  );
}

export interface MergedNetwork {
  readonly modules: readonly { readonly kind: string; readonly rank: number; readonly alpha: number }[];
  /** File name without the ending. */
  readonly title: string;
  readonly date: Date;
}

/** Keys that a loader or a trainer needs, taken from the first adapter that has them. */
const NEEDED_KEYS = ["ss_v2", "ss_base_model_version", "modelspec.architecture"] as const;

/** The metadata of an adapter that is a sum, without the `sshs_` hashes, which the writer adds. */
export function mergedMetadata(
  inputs: readonly MergeInput[],
  hashes: readonly string[],
  { modules, title, date }: MergedNetwork,
): Record<string, string> {
  const first = inputs[0]!.adapter.metadata;
  const merged: Record<string, string> = Object.fromEntries(
    Object.entries(first).filter(([key]) => !isStaleKey(key)),
  );
  for (const key of NEEDED_KEYS) {
    const value = inputs.map(({ adapter }) => adapter.metadata[key]).find((text) => text !== undefined);
    if (value !== undefined) merged[key] ??= value;
  }
  const ranks = new Set(modules.map(({ rank }) => rank));
  const alphas = new Set(modules.map(({ alpha }) => alpha));
  // A sum has no nested ranks, whatever its parts were.
  merged.ss_network_module = "networks.lora";
  merged.ss_network_dim = ranks.size === 1 ? String([...ranks][0]) : VARYING;
  merged.ss_network_alpha = alphas.size === 1 ? pythonFloat([...alphas][0]!) : VARYING;
  delete merged[NETWORK_ARGS_KEY];
  if (ranks.size === 1 && alphas.size === 1 && modules.some(({ kind }) => kind === "conv3x3")) {
    merged[NETWORK_ARGS_KEY] = writeNetworkArgs({
      conv_dim: merged.ss_network_dim,
      conv_alpha: merged.ss_network_alpha,
    });
  }
  if (merged.ss_output_name !== undefined) merged.ss_output_name = title;
  if (merged["modelspec.title"] !== undefined) merged["modelspec.title"] = title;
  if (merged["modelspec.date"] !== undefined) merged["modelspec.date"] = localIsoDate(date);
  return { ...merged, ...mergedFrom(inputs, hashes) };
}

/** The metadata of a checkpoint that adapters were merged into. */
export function mergedBaseMetadata(
  base: Readonly<Record<string, string>> | null,
  inputs: readonly MergeInput[],
  hashes: readonly string[],
  basePath: string,
): Record<string, string> {
  const kept = Object.entries(base ?? {}).filter(([key]) => !isStaleKey(key));
  return { ...Object.fromEntries(kept), ...mergedFrom(inputs, hashes, basePath) };
}

function mergedFrom(
  inputs: readonly MergeInput[],
  hashes: readonly string[],
  basePath?: string,
): Record<string, string> {
  const names = inputs.map(({ adapter }) => nameOf(adapter.path));
  const parents = inputs.map(({ ratio, blockWeights }, i) => ({
    name: names[i],
    ratio,
    ...(blockWeights == null ? {} : { blockWeights: Object.fromEntries(blockWeights) }),
    [MODEL_HASH_KEY]: hashes[i],
  }));
  const base = basePath === undefined ? [] : [{ name: nameOf(basePath), base: true }];
  return {
    [MODEL_SPEC_MERGED_FROM]: [...base.map(({ name }) => name), ...names].join(", "),
    [MERGED_FROM_KEY]: JSON.stringify([...base, ...parents]),
  };
}

export function nameOf(path: string): string {
  return basename(path).replace(/\.safetensors$/i, "");
}
