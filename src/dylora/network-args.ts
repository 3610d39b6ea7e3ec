/**
 * The values of `--network_args`, as sd-scripts spells them: `unit=4 conv_dim=8 conv_alpha=1 update_mode=frozen …`.
 */
import { KeyValues } from "../options/key-values.js";
import {
  checkConvRank,
  createRankPlan,
  fixedRankPlan,
  type RankDraw,
  type RankPlan,
  type RankWeighting,
  type UpdateMode,
} from "./rank-plan.js";

/** `lora`: one rank; `dylora`: all ranks up to a maximum. */
export type NetworkModule = "lora" | "dylora";

export interface NetworkArgs {
  /** Ranks are multiples of it. Default 1. */
  readonly unit: number;
  /** Rank of the 3x3 convolutions; null (default) leaves them without an adapter. */
  readonly convDim: number | null;
  /** Alpha of the 3x3 convolutions; 1 where `conv_dim` is given without it, `conv_dim` for 0, both as in sd-scripts. */
  readonly convAlpha: number | null;
  /** Default `full`. */
  readonly updateMode: UpdateMode;
  /** Default uniform. */
  readonly weighting: RankWeighting;
  /** The ranks to train, or null for every multiple of the unit. */
  readonly ranks: readonly number[] | null;
  /** Default `step`. */
  readonly rankDraw: RankDraw;
}

/**
 * `p` where `rank_distribution=geometric` gives none. With 8 ranks the smallest is then drawn in 21 % of the passes
 * and the largest in 7 %.
 */
export const DEFAULT_GEOMETRIC_P = 0.15;

const SHARED_KEYS: readonly string[] = ["conv_dim", "conv_alpha"];
const DYLORA_KEYS: readonly string[] = ["unit", "update_mode", "rank_distribution", "ranks", "rank_draw"];

/** What other trainers call the same thing, or have and dylora has not. */
const FOREIGN_KEYS: Readonly<Record<string, string>> = {
  block_size: "LyCORIS' block_size is unit here.",
  algo: "dylora trains LoRA and DyLoRA: choose with --network_module lora or dylora.",
  dropout: "dylora has no dropout inside the adapter: leave it out.",
  rank_dropout: "dylora has no dropout inside the adapter: leave it out (DyLoRA drops ranks by design).",
  module_dropout: "dylora has no dropout inside the adapter: leave it out.",
  block_dims: "dylora trains one rank for all blocks: leave it out.",
  block_alphas: "dylora trains one alpha for all blocks: leave it out.",
  conv_block_dims: "dylora trains one rank for all blocks: use conv_dim.",
  conv_block_alphas: "dylora trains one alpha for all blocks: use conv_alpha.",
};

/**
 * Reads the `key=value` entries of `--network_args`.
 *
 * @param entries - one `key=value` each; `-` and `_` in keys are the same
 * @throws {DyloraError} `E_CONFIG` for an unknown, repeated or misplaced key and for a value out of range
 */
export function parseNetworkArgs(entries: readonly string[], module: NetworkModule): NetworkArgs {
  const values = KeyValues.parse("network_args", entries, [...SHARED_KEYS, ...DYLORA_KEYS], FOREIGN_KEYS);
  const misplaced = values.keys.find((key) => DYLORA_KEYS.includes(key));
  if (module === "lora" && misplaced !== undefined) {
    throw values.error(
      `${misplaced} belongs to DyLoRA, and the network module is lora`,
      "Use --network_module dylora, or leave it out.",
    );
  }
  const convDim = values.number("conv_dim", { integer: true, min: 1 });
  const convAlpha = values.number("conv_alpha", { min: 0 });
  if (convAlpha !== null && convDim === null) {
    throw values.error(
      "conv_alpha is given without conv_dim",
      "Without conv_dim the 3x3 convolutions have no adapter: add conv_dim, or leave conv_alpha out.",
    );
  }
  const ranks = values.numbers("ranks", { integer: true, min: 1 });
  return {
    unit: values.number("unit", { integer: true, min: 1 }) ?? 1,
    convDim,
    convAlpha: convAlpha === 0 || convDim === null ? convDim : (convAlpha ?? 1),
    updateMode: values.choice("update_mode", ["full", "frozen"]) ?? "full",
    weighting: readWeighting(values, ranks !== null),
    ranks,
    rankDraw: values.choice("rank_draw", ["step", "module"]) ?? "step",
  };
}

/**
 * The rank plan that network module, `--network_dim` and `--network_args` describe together.
 *
 * @throws {DyloraError} `E_RANK` where rank, unit, `ranks` and `conv_dim` do not fit together
 */
export function rankPlanOf(module: NetworkModule, networkDim: number, args: NetworkArgs): RankPlan {
  const plan =
    module === "lora" ? fixedRankPlan(networkDim) : createRankPlan({ maxRank: networkDim, ...args });
  if (args.convDim !== null) checkConvRank(plan, args.convDim);
  return plan;
}

/**
 * The entries that give `args` again, defaults spelled out, for `ss_network_args` in a file's metadata (sd-scripts
 * stores them as an object of strings): whoever reads the file later need not know today's defaults.
 */
export function networkArgsRecord(args: NetworkArgs, module: NetworkModule): Record<string, string> {
  const record: Record<string, string> = {};
  if (args.convDim !== null) record.conv_dim = String(args.convDim);
  if (args.convAlpha !== null) record.conv_alpha = String(args.convAlpha);
  if (module === "lora") return record;
  record.unit = String(args.unit);
  record.update_mode = args.updateMode;
  record.rank_distribution =
    args.weighting.kind === "geometric" ? `geometric:${args.weighting.p}` : args.weighting.kind;
  if (args.ranks !== null) record.ranks = args.ranks.join(",");
  record.rank_draw = args.rankDraw;
  return record;
}

function readWeighting(values: KeyValues, hasRanks: boolean): RankWeighting {
  const key = "rank_distribution";
  const text = values.text(key) ?? "uniform";
  if (text === "uniform") return { kind: "uniform" };
  if (text === "geometric") return { kind: "geometric", p: DEFAULT_GEOMETRIC_P };
  if (text === "list") {
    if (!hasRanks) throw values.error(`${key}=list needs the ranks`, "For example: ranks=4,8,16");
    return { kind: "uniform" };
  }
  const p = /^geometric:(.+)$/.exec(text)?.[1];
  if (p === undefined) {
    throw values.error(`${key} must be uniform, geometric, geometric:<p> or list, got "${text}"`);
  }
  if (!(Number(p) > 0 && Number(p) < 1)) {
    throw values.error(`${key}: p of the geometric distribution must be above 0 and below 1, got "${p}"`);
  }
  return { kind: "geometric", p: Number(p) };
}
