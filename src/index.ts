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
export type {
  BenchHooks,
  BenchOptions,
  BenchReport,
  FileResult,
  RankResult,
} from "./evaluation/bench-types.js";
export { PairedComparison, recommendRank } from "./evaluation/statistics.js";
export { type Checkpoint, openCheckpoint } from "./models/checkpoint/index.js";
export { type LoraTarget, loraTargets } from "./models/lora-targets.js";
export { examineMachine } from "./runtime/doctor.js";
export {
  type Dtype,
  SafetensorsFile,
  type TensorInfo,
  type TensorSource,
  writeSafetensors,
} from "./safetensors/index.js";
export { type ExtractReport, extract, inspectAdapter, planExtract } from "./surgery/index.js";
export { createTrainConfig, type TrainConfig } from "./training/config.js";
export type { TrainEvent, TrainHooks, TrainResult } from "./training/events.js";
export { resume, train } from "./training/train.js";
export { dyloraVersion } from "./version.js";
