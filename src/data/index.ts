/** Training and evaluation data: folders, captions, images, batches, caches, tokens. */
export { assignBuckets, type Bucket, bucketsOf, meanAspectError } from "./assign-buckets.js";
export { adjustBounds, type BucketRules, checkSteps, type Frame, sizeName } from "./buckets.js";
export { type CaptionOptions, drawCaption, isCaptionFixed } from "./caption.js";
export { type Dataset, type DatasetItem, epochLength } from "./dataset.js";
export { EpochPlan } from "./epoch-plan.js";
export { decodeImage, IMAGE_PIPELINE, type LoadImageOptions, loadImage } from "./image.js";
export {
  type FillOptions,
  LatentCache,
  type LatentCacheOptions,
  type LatentMoments,
} from "./latent-cache.js";
export { createLoader, defaultWorkers, type LoadedBatch, type LoaderOptions } from "./loader.js";
export {
  dropUnreadable,
  type ProbedImage,
  type ProbeOptions,
  type ProbeResult,
  probeImages,
  type UnreadableImage,
} from "./probe.js";
export { checkResolution, type ImageSize, parseResolution } from "./resolution.js";
export { type Sample, Sampler, type SamplerOptions } from "./sampler.js";
export { type ScanOptions, scanEvaluationDir, scanTrainDataDir } from "./scan.js";
export { splitValidation, type ValidationSplit } from "./split.js";
export {
  CACHE_FOLDER_NAME,
  cacheKey,
  DiskTensorCache,
  defaultCacheDir,
  MemoryTensorCache,
  type TensorCache,
  type TensorRecord,
} from "./tensor-cache.js";
export { TextCache, type TextCacheOptions } from "./text-cache.js";
export {
  CLIP_TOKENS,
  ClipTokenizer,
  type ClipTokenizerOptions,
  loadClipTokenizer,
  type TokenizedPrompt,
} from "./tokenizer.js";
export { listNames } from "./wording.js";
