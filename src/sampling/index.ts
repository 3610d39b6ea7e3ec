/** Pictures from a checkpoint with adapters at any rank and strength. */
export { generateImages } from "./generate.js";
export {
  type GenerateFilesHooks,
  type GenerateReport,
  generateFiles,
  type PictureFile,
} from "./generate-files.js";
export {
  type AdapterChoice,
  createGenerateOptions,
  GENERATE_OPTIONS,
  type GenerateOptions,
  type GenerateOptionsInput,
} from "./generate-options.js";
export { type LoadedAdapter, liveAdapter, loadAdapter } from "./loaded-adapter.js";
export { type ModelLabel, modelName, parametersText } from "./parameters-text.js";
export { encodePng } from "./png.js";
export { type PromptEntry, readPromptFile } from "./prompt-file.js";
export {
  NOISE_SPACINGS,
  type NoiseSpacing,
  SAMPLER_ALIASES,
  SAMPLER_LABELS,
  SAMPLER_NAMES,
  SAMPLERS_ELSEWHERE,
  type SamplerName,
} from "./sampler-names.js";
export { type TrainedWith, trainedWith } from "./trained-with.js";
export {
  type AppliedAdapter,
  type GeneratedImage,
  type GenerateHooks,
  type GenerateProgress,
  type GenerateRequest,
  IMAGE_DEFAULTS,
  type ImageRequest,
} from "./types.js";
