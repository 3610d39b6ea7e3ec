/** The metadata of an extracted copy: its parent's, with everything that depends on the rank put right. */
import {
  type AlphaRule,
  localIsoDate,
  NETWORK_ARGS_KEY,
  pythonFloat,
  readNetworkArgs,
  writeNetworkArgs,
} from "../../adapter/index.js";
import {
  PARENT_HASH_KEY,
  PARENT_HASH_PLACEHOLDER,
  PARENT_RANK_KEY,
  PARENT_RULE_KEY,
} from "../common/parent-keys.js";
import { extractedAlpha, ruleOfCopy } from "./alpha-rule.js";
import { RANK_GROUPS, type RankGroup } from "./component-ranks.js";

export interface ComponentFacts {
  readonly rank: number;
  readonly alphas: readonly number[];
}

export interface CopyFacts {
  /** The largest of the components'. */
  readonly rank: number;
  readonly maxRank: number;
  readonly unit: number;
  readonly alphaRule: AlphaRule;
  /** Whether the parent says that it is a DyLoRA: its copies are smaller ones. */
  readonly isDylora: boolean;
  /** Alpha of all modules of the copy, where they agree; written if the parent's metadata has none. */
  readonly alpha: number | null;
  /** The largest rank and the distinct alphas of each component's modules, as they are in the copy. */
  readonly components: Readonly<Partial<Record<RankGroup, ComponentFacts>>>;
  /** Whether the ranks were chosen by component, which the copy then says in its network args. */
  readonly isPerComponent: boolean;
  /** File name without the ending. */
  readonly title: string;
  readonly date: Date;
  /** Whether the parent's hash will be known; if not, the copy has none of it. */
  readonly hashes: boolean;
}

/** Values of the parent that are wrong for any copy. */
const STALE_KEYS: ReadonlySet<string> = new Set([
  "sshs_model_hash",
  "sshs_legacy_hash",
  "modelspec.hash_sha256",
]);

/** The metadata of the copy, without the `sshs_` hashes, which the writer adds. */
export function extractedMetadata(
  parent: Readonly<Record<string, string>>,
  facts: CopyFacts,
): Record<string, string> {
  const { rank, maxRank, title } = facts;
  const copy = Object.fromEntries(Object.entries(parent).filter(([key]) => !STALE_KEYS.has(key)));
  const parentDim = positiveNumber(parent.ss_network_dim) ?? maxRank;
  const dim = Math.min(rank, parentDim);
  copy.ss_network_dim = String(dim);

  const parentAlpha = finiteNumber(parent.ss_network_alpha);
  if (parentAlpha !== null) {
    const alpha = alphaAt(parentAlpha, parentDim, dim, facts);
    if (alpha !== parentAlpha) copy.ss_network_alpha = pythonFloat(alpha);
  } else if (facts.alpha !== null) {
    copy.ss_network_alpha = pythonFloat(facts.alpha);
  }

  const args = copyArgs(parent, facts);
  if (args !== null) copy[NETWORK_ARGS_KEY] = args;
  // A1111 shows and addresses an adapter by ss_output_name: copies of one name would hide each other.
  if (copy.ss_output_name !== undefined) copy.ss_output_name = title;
  if (copy["modelspec.title"] !== undefined) copy["modelspec.title"] = title;
  if (copy["modelspec.date"] !== undefined) copy["modelspec.date"] = localIsoDate(facts.date);
  if (facts.hashes) copy[PARENT_HASH_KEY] = PARENT_HASH_PLACEHOLDER;
  copy[PARENT_RANK_KEY] = String(maxRank);
  copy[PARENT_RULE_KEY] = facts.alphaRule;
  return copy;
}

/** `ss_network_args` of the copy, or null to leave what is there. */
function copyArgs(parent: Readonly<Record<string, string>>, facts: CopyFacts): string | null {
  const { args: parentArgs, problem } = readNetworkArgs(parent);
  if (problem !== null) return null;
  const args: Record<string, string> = { ...parentArgs };
  // Convolutions and blocks are the U-Net's.
  const unetRank = facts.components.unet?.rank ?? facts.rank;
  for (const prefix of ["conv_", "block_", "conv_block_"]) {
    const plural = prefix.endsWith("block_") ? "s" : "";
    const dimKey = `${prefix}dim${plural}`;
    const alphaKey = `${prefix}alpha${plural}`;
    const dims = numberList(parentArgs[dimKey]);
    if (dims === null) continue;
    args[dimKey] = dims.map((dim) => String(Math.min(dim, unetRank))).join(",");
    const alphas = numberList(parentArgs[alphaKey]);
    if (alphas === null || alphas.length !== dims.length || facts.alphaRule === "paper") continue;
    const copies = alphas.map((alpha, i) => alphaAt(alpha, dims[i]!, Math.min(dims[i]!, unetRank), facts));
    args[alphaKey] = copies.map(pythonFloat).join(",");
  }
  for (const group of RANK_GROUPS) {
    const component = facts.components[group];
    // A copy of such a copy has to say it anew.
    if (component === undefined || !(facts.isPerComponent || `${group}_dim` in parentArgs)) continue;
    args[`${group}_dim`] = String(component.rank);
    const [alpha, ...others] = component.alphas;
    if (others.length === 0) args[`${group}_alpha`] = pythonFloat(alpha!);
    else delete args[`${group}_alpha`];
  }
  if (facts.isDylora) args.alpha_rule = ruleOfCopy(facts.alphaRule);
  const changed =
    Object.keys(parentArgs).length !== Object.keys(args).length ||
    Object.entries(args).some(([key, value]) => parentArgs[key] !== value);
  return changed ? writeNetworkArgs(args) : null;
}

function alphaAt(alpha: number, fullRank: number, rank: number, { alphaRule, unit }: CopyFacts): number {
  // sd-scripts reads an alpha (or a dimension) of 0 as "the same as the rank", or as no adapter.
  return fullRank === 0 ? alpha : extractedAlpha(alphaRule, { alpha, rank: fullRank, unit }, rank);
}

function finiteNumber(text: string | undefined): number | null {
  if (text === undefined || text.trim() === "") return null;
  const value = Number(text);
  return Number.isFinite(value) ? value : null;
}

function positiveNumber(text: string | undefined): number | null {
  const value = finiteNumber(text);
  return value !== null && value > 0 ? value : null;
}

function numberList(text: string | undefined): number[] | null {
  if (text === undefined) return null;
  const values = text.split(",").map((part) => finiteNumber(part));
  return values.includes(null) ? null : (values as number[]);
}
