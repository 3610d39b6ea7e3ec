/** A LoRA file as a list of modules, whatever its dialect. */

export { BASE_MODEL_TITLES, type BaseModel, type BaseModelFacts, readBaseModel } from "./base-model.js";
export type { TensorReader } from "./combined-file.js";
export {
  DIALECTS,
  type Dialect,
  type DialectId,
  kohyaTensorNames,
  type TensorRole,
} from "./dialects/index.js";
export {
  type AlphaForm,
  type KohyaNaming,
  USUAL_ALPHA,
  WRITTEN_DIALECTS,
  type WrittenDialect,
} from "./dialects/written.js";
export { ALPHA_RULES, type AlphaRule, type DyloraFacts, readDyloraFacts } from "./dylora-facts.js";
export { type ModuleFactors, readFactors, transpose } from "./factors.js";
export { localIsoDate } from "./model-spec.js";
export * from "./module.js";
export { NETWORK_ARGS_KEY, readNetworkArgs, writeNetworkArgs } from "./network-args.js";
export { Adapter, type OpenAdapterOptions, openAdapter } from "./open-adapter.js";
export type { AdapterPart } from "./peft-folder.js";
export { pythonFloat } from "./python-text.js";
export { decodeScalar, encodeScalar, encodeScalarAs } from "./scalar.js";
export {
  type BaseModelInput,
  buildTrainingMetadata,
  type DataFacts,
  type LossFacts,
  type NetworkFacts,
  type OptimizerFacts,
  type RunFacts,
  type TrainingMetadataInput,
} from "./training-metadata.js";
export {
  type AdapterModuleSource,
  type FactorSource,
  type WriteAdapterOptions,
  writeAdapter,
} from "./write-adapter.js";
