/** Operations on LoRA files. */
export { extractedAlpha } from "./alpha-rule.js";
export type { CopyDtype } from "./cast-values.js";
export type { GroupRanks, RankGroup } from "./component-ranks.js";
export { type ExtractReport, extract, type RunExtractOptions } from "./extract.js";
export {
  type AdapterReport,
  type EnergyReport,
  type InspectOptions,
  inspectAdapter,
  type ModuleGroupReport,
  type ModuleReport,
  type Range,
} from "./inspect.js";
export {
  type ExtractOptions,
  type ExtractOutput,
  type ExtractPlan,
  planExtract,
  type TensorPrefix,
} from "./plan-extract.js";
export { gramMatrix, prefixEnergies } from "./product-energy.js";
export { type RankSelection, selectRanks } from "./select-ranks.js";
