/**
 * dylora as a library.
 *
 * The command line is a thin layer over these functions: everything it does can be done from here. Nothing in here prints
 * or ends the process; long work takes an `AbortSignal` and reports through callbacks; errors are {@link DyloraError}.
 *
 * @module
 */

export {
  type Adapter,
  type AdapterModuleSource,
  type AlphaRule,
  type DyloraFacts,
  type LoraModule,
  openAdapter,
  readFactors,
  writeAdapter,
} from "./adapter/index.js";
export { DyloraError, ERROR_EXIT_CODES, type ErrorCode } from "./errors.js";
export { bench } from "./evaluation/bench.js";
export { type BenchConfig, type BenchConfigInput, createBenchConfig } from "./evaluation/bench-config.js";
export { benchCsv } from "./evaluation/bench-csv.js";
export type {
  BenchHooks,
  BenchReport,
  FileResult,
  MultiplierResult,
  RankResult,
} from "./evaluation/bench-types.js";
export { type CalibrationHooks, type CalibrationReport, calibrate } from "./evaluation/calibration.js";
export type { CalibrationOptions } from "./evaluation/calibration-options.js";
export { LossStore } from "./evaluation/loss-store.js";
export { PairedComparison } from "./evaluation/statistics.js";
export { type Checkpoint, openCheckpoint } from "./models/checkpoint/index.js";
export { type LoraTarget, loraTargets } from "./models/lora-targets.js";
export {
  benchPage,
  drawBenchPictures,
  RunReport,
  readEnergyMap,
  rebuildReport,
  reportBench,
  writeReport,
} from "./report/index.js";
export { examineMachine } from "./runtime/doctor.js";
export {
  type Dtype,
  SafetensorsFile,
  type TensorInfo,
  type TensorSource,
  writeSafetensors,
} from "./safetensors/index.js";
export {
  type AppliedAdapter,
  createGenerateOptions,
  encodePng,
  type GeneratedImage,
  type GenerateHooks,
  type GenerateOptionsInput,
  type GenerateReport,
  type GenerateRequest,
  generateFiles,
  generateImages,
  type ImageRequest,
  type LoadedAdapter,
  loadAdapter,
  parametersText,
} from "./sampling/index.js";
export { type CompareReport, compareAdapters } from "./surgery/compare/compare.js";
export { type ConvertReport, convert } from "./surgery/convert/convert.js";
export { type ConvertOptions, type ConvertPlan, planConvert } from "./surgery/convert/plan.js";
export { type DiffOptions, type DiffReport, diffCheckpoints } from "./surgery/diff/diff.js";
export { type EditOptions, type EditReport, editMetadata, type MetadataEdit } from "./surgery/edit/edit.js";
export {
  type AdapterReport,
  type Budget,
  type BudgetOptions,
  type ExtractOptions,
  type ExtractPlan,
  type ExtractReport,
  extract,
  type InspectOptions,
  inspectAdapter,
  type MixedRanks,
  planBudgetExtract,
  planExtract,
  type RankSelection,
} from "./surgery/index.js";
export { type FolderReport, inspectFolder } from "./surgery/inspect/inspect-folder.js";
export {
  type MergeBasePlan,
  type MergeBaseReport,
  planMergeIntoBase,
  runMergeIntoBase,
} from "./surgery/merge/base.js";
export { parseBlockWeights } from "./surgery/merge/block-weights.js";
export {
  type MergeOptions,
  type MergePlan,
  type MergeReport,
  planMerge,
  runMerge,
} from "./surgery/merge/merge.js";
export type { MergeInput } from "./surgery/merge/terms.js";
export { type NestOptions, type NestPlan, type NestReport, nest, planNest } from "./surgery/nest/nest.js";
export { planResize, type ResizeOptions, type ResizePlan } from "./surgery/resize/plan-resize.js";
export type { RankRule } from "./surgery/resize/rank-rules.js";
export { type ResizeReport, resize } from "./surgery/resize/resize.js";
export { readSpectrum, type SpectrumReport } from "./surgery/svd/spectrum.js";
export { type VerifyOptions, type VerifyReport, verifyFile } from "./surgery/verify/verify.js";
export { createTrainConfig, type TrainConfig } from "./training/config.js";
export type { TrainEvent, TrainHooks, TrainResult } from "./training/events.js";
export { resume, train } from "./training/train.js";
export { dyloraVersion } from "./version.js";
