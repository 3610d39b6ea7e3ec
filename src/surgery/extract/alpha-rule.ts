/** The alpha that gives a prefix the strength it was trained with. */
import type { AlphaRule } from "../../adapter/index.js";

export interface AlphaOfParent {
  /** Of the module at full rank. */
  readonly alpha: number;
  /** The module's full rank, `R`. */
  readonly rank: number;
  /** Of the file: its rank step. */
  readonly unit: number;
}

/**
 * Alpha for the first `rank` components of a module. A loader multiplies by alpha / rank.
 *
 * | rule | scale that was trained at b | alpha at b |
 * | --- | --- | --- |
 * | `paper` | alpha / b | alpha |
 * | `sd-scripts` | alpha / R · sqrt(R / b) | alpha · sqrt(b / R) |
 * | `lycoris` | alpha / (b / unit) | alpha · unit |
 * | `keep` | alpha / R (not trained: full-rank scale) | alpha · b / R |
 *
 * @see Valipour et al. 2022 (arXiv:2210.07558) eq. 7; sd-scripts networks/dylora.py; LyCORIS lycoris/modules/dylora.py
 */
export function extractedAlpha(
  rule: AlphaRule,
  { alpha, rank: fullRank, unit }: AlphaOfParent,
  rank: number,
): number {
  switch (rule) {
    case "paper":
      return alpha;
    case "sd-scripts":
      return alpha * Math.sqrt(rank / fullRank);
    case "lycoris":
      return alpha * unit;
    case "keep":
      return (alpha * rank) / fullRank;
  }
}

/**
 * The rule that a copy is to be extracted with in turn, so that the result is the same as from the parent: LyCORIS' unit is
 * folded into alpha by then.
 */
export function ruleOfCopy(rule: AlphaRule): AlphaRule {
  return rule === "lycoris" ? "paper" : rule;
}
