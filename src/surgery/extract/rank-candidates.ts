/** The ranks that each module of a nested adapter can be cut off at, and its strength there. */
import type { Adapter, AlphaRule, LoraModule } from "../../adapter/index.js";
import { extractedAlpha } from "./alpha-rule.js";
import { selectRanks } from "./select-ranks.js";

export interface RankCandidates {
  readonly module: LoraModule;
  /** Ascending: those that were trained, or every multiple of the unit; the module's own is the last. */
  readonly ranks: readonly number[];
  /** By rank: `alpha / rank`, with which the prefix of that rank was trained. */
  readonly scales: readonly number[];
}

/** By module, in the order of `adapter.modules`. */
export function rankCandidates(adapter: Adapter, alphaRule: AlphaRule): RankCandidates[] {
  const { dylora, modules, path } = adapter;
  const unit = dylora.unit ?? 1;
  const ranksBelow = new Map<number, readonly number[]>();
  return modules.map((module) => {
    const { rank: maxRank, alpha } = module;
    const known = ranksBelow.get(maxRank);
    const ranks = known ?? selectRanks({ all: true }, { ...dylora, maxRank }, `extract ${path}`);
    ranksBelow.set(maxRank, ranks);
    const scaleAt = (rank: number) => extractedAlpha(alphaRule, { alpha, rank: maxRank, unit }, rank) / rank;
    return { module, ranks, scales: ranks.map(scaleAt) };
  });
}
