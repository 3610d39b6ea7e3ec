/** The metadata of a file that is no longer what was trained: new factors, or modules with ranks of their own. */
import {
  localIsoDate,
  NETWORK_ARGS_KEY,
  pythonFloat,
  readNetworkArgs,
  writeNetworkArgs,
} from "../../adapter/index.js";
import { PARENT_HASH_KEY, PARENT_HASH_PLACEHOLDER, PARENT_RANK_KEY } from "../common/parent-keys.js";

/** JSON: what was done to the parent. */
export const OPERATION_KEY = "dylora_operation";

/** What `ss_network_dim` and `ss_network_alpha` say where modules differ (sd-scripts' word). */
const VARYING = "Dynamic";

/** Wrong for anything made from the parent; `lora_adapter_metadata` has the ranks and alphas of diffusers' dialect. */
const STALE_KEYS: ReadonlySet<string> = new Set([
  "sshs_model_hash",
  "sshs_legacy_hash",
  "modelspec.hash_sha256",
  "dylora_alpha_rule",
  "lora_adapter_metadata",
]);

/** Arguments that describe how a network was trained or laid out, and not what it is. */
const OLD_ARGS: ReadonlySet<string> = new Set([
  "unit",
  "alpha_rule",
  "update_mode",
  "ranks",
  "rank_distribution",
  "rank_draw",
  "algo",
  "preset",
  "block_size",
  "conv_dim",
  "conv_alpha",
  "block_dims",
  "block_alphas",
  "conv_block_dims",
  "conv_block_alphas",
]);

export interface ResizedFacts {
  readonly modules: readonly { readonly kind: string; readonly rank: number; readonly alpha: number }[];
  /** The largest rank of the parent. */
  readonly parentRank: number;
  /** For `OPERATION_KEY`. */
  readonly operation: Readonly<Record<string, unknown>>;
  /** Every prefix is to be extracted at the full rank's scale. */
  readonly nested: boolean;
  /** File name without the ending. */
  readonly title: string;
  readonly date: Date;
  /** Whether the parent's hash will be known; if not, the file has none of it. Default true. */
  readonly hashes?: boolean;
}

/** The metadata, without the `sshs_` hashes, which the writer adds; the parent's hash is a placeholder. */
export function resizedMetadata(
  parent: Readonly<Record<string, string>>,
  facts: ResizedFacts,
): Record<string, string> {
  const { title, date } = facts;
  const result = Object.fromEntries(Object.entries(parent).filter(([key]) => !STALE_KEYS.has(key)));
  const main = facts.modules.filter(({ kind }) => kind !== "conv3x3");
  const conv = facts.modules.filter(({ kind }) => kind === "conv3x3");
  const { dim, alpha } = common(main.length > 0 ? main : conv);
  result.ss_network_module = facts.nested ? "networks.dylora" : "networks.lora";
  result.ss_network_dim = dim;
  result.ss_network_alpha = alpha;
  const args = networkArgs(parent, conv, facts.nested);
  if (Object.keys(args).length > 0) result[NETWORK_ARGS_KEY] = writeNetworkArgs(args);
  else delete result[NETWORK_ARGS_KEY];
  // A1111 shows and addresses an adapter by ss_output_name: files of one name would hide each other.
  if (result.ss_output_name !== undefined) result.ss_output_name = title;
  if (result["modelspec.title"] !== undefined) result["modelspec.title"] = title;
  if (result["modelspec.date"] !== undefined) result["modelspec.date"] = localIsoDate(date);
  if (facts.hashes ?? true) result[PARENT_HASH_KEY] = PARENT_HASH_PLACEHOLDER;
  result[PARENT_RANK_KEY] = String(facts.parentRank);
  result[OPERATION_KEY] = JSON.stringify(facts.operation);
  return result;
}

function networkArgs(
  parent: Readonly<Record<string, string>>,
  conv: ResizedFacts["modules"],
  nested: boolean,
): Record<string, string> {
  const { args, problem } = readNetworkArgs(parent);
  const kept = problem === null ? Object.entries(args).filter(([key]) => !OLD_ARGS.has(key)) : [];
  const { dim, alpha } = common(conv);
  return {
    ...Object.fromEntries(kept),
    ...(conv.length === 0 ? {} : { conv_dim: dim, conv_alpha: alpha }),
    ...(nested ? { unit: "1", alpha_rule: "keep" } : {}),
  };
}

function common(modules: ResizedFacts["modules"]): { dim: string; alpha: string } {
  const ranks = new Set(modules.map(({ rank }) => rank));
  const alphas = new Set(modules.map(({ alpha }) => alpha));
  return {
    dim: ranks.size === 1 ? String([...ranks][0]) : VARYING,
    alpha: alphas.size === 1 ? pythonFloat([...alphas][0]!) : VARYING,
  };
}
