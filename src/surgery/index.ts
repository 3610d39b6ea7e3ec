/** Operations on LoRA files. */
export { extractedAlpha } from "./extract/alpha-rule.js";
export type { CopyDtype } from "./extract/cast-values.js";
export type { GroupRanks, RankGroup } from "./extract/component-ranks.js";
export { type ExtractReport, extract, type RunExtractOptions } from "./extract/extract.js";
export {
  type Budget,
  type BudgetOptions,
  type MeasureWorth,
  type MixedModule,
  type MixedRanks,
  planBudgetExtract,
} from "./extract/plan-budget.js";
export {
  type ExtractOptions,
  type ExtractOutput,
  type ExtractPlan,
  planExtract,
} from "./extract/plan-extract.js";
export { measureEnergy, type RankWorth } from "./extract/prefix-worth.js";
export { type RankCandidates, rankCandidates } from "./extract/rank-candidates.js";
export { type RankSelection, selectRanks } from "./extract/select-ranks.js";
export {
  type AdapterReport,
  type EnergyReport,
  type InspectOptions,
  inspectAdapter,
  type ModuleGroupReport,
  type ModuleReport,
  type Range,
} from "./inspect/inspect.js";
export { type PrefixProducts, prefixProducts, projectedEnergies } from "./svd/product-energy.js";
