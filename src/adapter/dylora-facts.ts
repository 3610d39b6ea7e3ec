/** What a file says about the ranks that it was trained for. */
import { readNetworkArgs } from "./network-args.js";

/**
 * Which strength a file has at rank b, and so which alpha the prefix of rank b needs (R: the module's rank).
 *
 * `paper`: trained with alpha / b, alpha stays. `sd-scripts`: trained with alpha / R · sqrt(R / b), alpha becomes
 * alpha · sqrt(b / R). `lycoris`: trained with alpha / (b / unit), alpha becomes alpha · unit. `keep`: the scale alpha / R
 * stays as it is at full rank, alpha becomes alpha · b / R (what A1111 does for `dyn=b`).
 */
export const ALPHA_RULES = ["paper", "sd-scripts", "lycoris", "keep"] as const;
export type AlphaRule = (typeof ALPHA_RULES)[number];

export interface DyloraFacts {
  /** True where the file says that it was trained as a DyLoRA. */
  readonly isDylora: boolean;
  /** Ranks are multiples of it; null where the file is no DyLoRA. */
  readonly unit: number | null;
  readonly alphaRule: AlphaRule;
  /**
   * `metadata`: the file names the rule. `trainer`: the rule of the trainer that the file names. `assumed`: the file
   * names neither, or no DyLoRA trainer. `unknown`: the file names a rule that dylora does not know.
   */
  readonly alphaRuleSource: "metadata" | "trainer" | "assumed" | "unknown";
  /** Which components a step of rank b trained; null where the file does not say. */
  readonly updateMode: "full" | "frozen" | null;
  /** The ranks that were trained, ascending, where they were not all multiples of the unit; else null. */
  readonly trainedRanks: readonly number[] | null;
  /** The largest rank of all modules. */
  readonly maxRank: number;
  /** What in the metadata is contradictory or cannot be read. */
  readonly problems: readonly string[];
}

/** sd-scripts trains single ranks where `unit` is not given, LyCORIS blocks of 4. */
const DEFAULT_UNIT = { sdScripts: 1, lycoris: 4 } as const;

/** Reads the facts from `ss_network_module` and `ss_network_args`. Never fails: what cannot be read is a problem. */
export function readDyloraFacts(metadata: Readonly<Record<string, string>>, maxRank: number): DyloraFacts {
  const { args, problem } = readNetworkArgs(metadata);
  const problems = problem === null ? [] : [problem];
  const module = metadata.ss_network_module;
  const isLycoris = module?.startsWith("lycoris.") === true && args.algo?.toLowerCase() === "dylora";
  const isDylora = module === "networks.dylora" || isLycoris;

  const named = args.alpha_rule;
  const isKnownRule = (ALPHA_RULES as readonly (string | undefined)[]).includes(named);
  if (named !== undefined && !isKnownRule) problems.push(`unknown alpha_rule ${JSON.stringify(named)}`);
  const trainerRule: AlphaRule = isLycoris ? "lycoris" : isDylora ? "sd-scripts" : "paper";

  const unitKey = isLycoris ? "block_size" : "unit";
  const defaultUnit = isLycoris ? DEFAULT_UNIT.lycoris : DEFAULT_UNIT.sdScripts;
  const unit = isDylora ? (readCount(unitKey, args[unitKey], problems) ?? defaultUnit) : null;
  if (unit !== null && maxRank % unit !== 0) {
    problems.push(`the largest rank, ${maxRank}, is no multiple of ${unitKey} ${unit}`);
  }

  const updateMode = args.update_mode === "full" || args.update_mode === "frozen" ? args.update_mode : null;
  if (args.update_mode !== undefined && updateMode === null) {
    problems.push(`unknown update_mode ${JSON.stringify(args.update_mode)}`);
  }
  return {
    isDylora,
    unit,
    alphaRule: isKnownRule ? (named as AlphaRule) : trainerRule,
    alphaRuleSource:
      named !== undefined ? (isKnownRule ? "metadata" : "unknown") : isDylora ? "trainer" : "assumed",
    updateMode,
    trainedRanks: isDylora ? readRanks(args.ranks, problems) : null,
    maxRank,
    problems,
  };
}

function readCount(key: string, text: string | undefined, problems: string[]): number | null {
  if (text === undefined || text === "None") return null;
  const count = Number(text);
  if (Number.isSafeInteger(count) && count >= 1) return count;
  problems.push(`${key} is ${JSON.stringify(text)} instead of a whole number of 1 or more`);
  return null;
}

function readRanks(text: string | undefined, problems: string[]): number[] | null {
  if (text === undefined || text === "None") return null;
  const ranks = text.split(",").map((part) => readCount("ranks", part.trim(), problems));
  return ranks.includes(null) ? null : [...new Set(ranks as number[])].sort((a, b) => a - b);
}
