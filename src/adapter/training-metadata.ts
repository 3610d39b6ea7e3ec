/**
 * The metadata of a trained adapter: sd-scripts' `ss_*` keys and `modelspec.*`.
 *
 * Viewers, loaders and trainers read these keys, so the names, the order and the notation (Python's `str`) are sd-scripts'.
 * A key is written for what dylora has; options that it has not are written with the value that says so.
 */
import { buildModelSpec, type ModelSpecInput } from "./model-spec.js";
import { NETWORK_ARGS_KEY, writeNetworkArgs } from "./network-args.js";
import { pythonFloat, pythonJson, pythonStr } from "./python-text.js";

export interface RunFacts {
  /** A random integer, the same for all files of one run. */
  readonly sessionId: number;
  readonly startedAt: Date;
  readonly finishedAt: Date;
  /** `--output_name`. */
  readonly outputName: string;
  /** `--training_comment`. */
  readonly comment?: string | null;
  readonly seed: number;
  /** Optimizer steps and epochs done when the file is written. */
  readonly steps: number;
  readonly epoch: number;
  readonly maxTrainSteps: number;
  readonly numEpochs: number;
  readonly numBatchesPerEpoch: number;
}

export interface NetworkFacts {
  readonly module: "networks.lora" | "networks.dylora";
  readonly dim: number;
  readonly alpha: number;
  /** `--network_args` and what identifies the rule: `{ unit: "4", alpha_rule: "paper", update_mode: "full" }`. */
  readonly args: Readonly<Record<string, string>>;
}

export interface OptimizerFacts {
  readonly learningRate: number | null;
  readonly unetLr: number | null;
  readonly textEncoderLr: number | null;
  /** Name and arguments: `AdamW(weight_decay=0.01)`. */
  readonly optimizer: string;
  readonly lrScheduler: string;
  readonly lrWarmupSteps: number;
  readonly maxGradNorm: number;
  readonly gradientAccumulationSteps: number;
  readonly mixedPrecision: "no" | "fp16";
  readonly gradientCheckpointing: boolean;
}

export interface BaseModelInput {
  /** `sd_v1`, `sd_v2`, `sd_v1_v`, `sd_v2_v`, `sdxl_base_v1-0`. */
  readonly version: string;
  readonly isV2: boolean;
  /** File or folder name, without the path. */
  readonly name: string;
  /** First 8 hexadecimal digits of the SHA-256 of 64 KiB at 1 MiB, if the model is one file. */
  readonly shortHash?: string | null;
  /** SHA-256 of the whole file, if the model is one file. */
  readonly sha256?: string | null;
  /** `--vae`, if given, as the model. */
  readonly vae?: {
    readonly name: string;
    readonly shortHash?: string | null;
    readonly sha256?: string | null;
  } | null;
}

export interface DataFacts {
  /** Images times repeats. */
  readonly numTrainImages: number;
  readonly numValidationImages: number;
  readonly numRegImages?: number;
  readonly batchSize: number;
  /** Width and height in pixels. */
  readonly resolution: readonly [number, number];
  /** By folder name. */
  readonly datasetDirs: Readonly<
    Record<string, { readonly numRepeats: number; readonly imageCount: number }>
  >;
  /** By folder name, then tag. */
  readonly tagFrequency?: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** `--clip_skip`, if given. */
  readonly clipSkip?: number | null;
  readonly cacheLatents: boolean;
  readonly keepTokens?: number;
  readonly shuffleCaption?: boolean;
  readonly captionDropoutRate?: number;
  readonly flipAug?: boolean;
  readonly randomCrop?: boolean;
  /** Null (default): all images are trained at `resolution`. */
  readonly buckets?: {
    readonly min: number;
    readonly max: number;
    /** sd-scripts has no key for it: `ss_bucket_reso_steps` is dylora's own, so that a comparison finds the same sizes. */
    readonly steps: number;
    readonly noUpscale: boolean;
    /** By width, then height; `count` of samples, so with repeats. */
    readonly sizes: readonly { readonly resolution: readonly [number, number]; readonly count: number }[];
    /** Mean difference of aspect ratios between images and buckets, without repeats. */
    readonly meanAspectError: number;
  } | null;
  readonly validationSplit?: number;
  readonly validationSeed?: number | null;
}

export interface LossFacts {
  readonly minSnrGamma?: number | null;
  readonly noiseOffset?: number | null;
  readonly zeroTerminalSnr?: boolean;
  readonly priorLossWeight?: number;
}

export interface TrainingMetadataInput {
  readonly run: RunFacts;
  readonly network: NetworkFacts;
  readonly optimizer: OptimizerFacts;
  readonly base: BaseModelInput;
  readonly data: DataFacts;
  readonly loss: LossFacts;
  /** `modelspec.*`; title and date default to the run's, resolution and clip skip to the data's. */
  readonly modelSpec: Omit<ModelSpecInput, "title" | "date" | "resolution" | "clipSkip"> & {
    readonly title?: string | null;
  };
  /** `--no_metadata`: only what a loader or a trainer needs. Default false. */
  readonly minimal?: boolean;
}

/** What sd-scripts writes with `--no_metadata`. */
const MINIMAL_KEYS: readonly string[] = [
  "ss_v2",
  "ss_base_model_version",
  "ss_network_module",
  "ss_network_dim",
  "ss_network_alpha",
  NETWORK_ARGS_KEY,
];

/** All metadata of a trained adapter but the hashes, which the writer adds. */
export function buildTrainingMetadata(input: TrainingMetadataInput): Record<string, string> {
  const { run, data, modelSpec, minimal } = input;
  const training: Record<string, string> = {
    ...runKeys(input),
    ...networkKeys(input.network),
    ...optimizerKeys(input.optimizer),
    ...baseKeys(input.base),
    ...dataKeys(data),
    ss_total_batch_size: String(data.batchSize * input.optimizer.gradientAccumulationSteps),
    ...lossKeys(input.loss),
    ...FIXED_KEYS,
  };
  const kept = Object.entries(training).filter(([key]) => !minimal || MINIMAL_KEYS.includes(key));
  return {
    ...Object.fromEntries(kept),
    ...buildModelSpec({
      ...modelSpec,
      title: modelSpec.title ?? run.outputName,
      date: run.finishedAt,
      resolution: data.resolution,
      clipSkip: data.clipSkip ?? null,
    }),
  };
}

/** What sd-scripts has options for and dylora has not. */
const FIXED_KEYS: Readonly<Record<string, string>> = {
  ss_full_fp16: "False",
  ss_fp8_base: "False",
  ss_fp8_base_unet: "False",
  ss_lowram: "False",
  ss_max_token_length: "None",
  ss_network_dropout: "None",
  ss_color_aug: "False",
  ss_face_crop_aug_range: "None",
  ss_caption_dropout_every_n_epochs: "0",
  ss_caption_tag_dropout_rate: "0.0",
  ss_multires_noise_iterations: "None",
  ss_multires_noise_discount: "0.3",
  ss_adaptive_noise_scale: "None",
  ss_noise_offset_random_strength: "False",
  ss_ip_noise_gamma: "None",
  ss_ip_noise_gamma_random_strength: "False",
  ss_debiased_estimation: "False",
  ss_scale_weight_norms: "None",
  ss_loss_type: "l2",
};

function runKeys({ run, data }: TrainingMetadataInput): Record<string, string> {
  return {
    ss_session_id: String(run.sessionId),
    ss_training_started_at: unixSeconds(run.startedAt),
    ss_training_finished_at: unixSeconds(run.finishedAt),
    ss_output_name: run.outputName,
    ss_training_comment: pythonStr(run.comment ?? null),
    ss_seed: String(run.seed),
    ss_steps: String(run.steps),
    ss_epoch: String(run.epoch),
    ss_max_train_steps: String(run.maxTrainSteps),
    ss_num_epochs: String(run.numEpochs),
    ss_num_batches_per_epoch: String(run.numBatchesPerEpoch),
    ss_num_train_images: String(data.numTrainImages),
    ss_num_validation_images: String(data.numValidationImages),
    ss_num_reg_images: String(data.numRegImages ?? 0),
  };
}

function networkKeys({ module, dim, alpha, args }: NetworkFacts): Record<string, string> {
  return {
    ss_network_module: module,
    ss_network_dim: String(dim),
    ss_network_alpha: pythonFloat(alpha),
    ...(Object.keys(args).length === 0 ? {} : { [NETWORK_ARGS_KEY]: writeNetworkArgs(args) }),
  };
}

function optimizerKeys(optimizer: OptimizerFacts): Record<string, string> {
  return {
    ss_learning_rate: floatOrNone(optimizer.learningRate),
    ss_unet_lr: floatOrNone(optimizer.unetLr),
    ss_text_encoder_lr: floatOrNone(optimizer.textEncoderLr),
    ss_optimizer: optimizer.optimizer,
    ss_lr_scheduler: optimizer.lrScheduler,
    ss_lr_warmup_steps: String(optimizer.lrWarmupSteps),
    ss_max_grad_norm: pythonFloat(optimizer.maxGradNorm),
    ss_gradient_accumulation_steps: String(optimizer.gradientAccumulationSteps),
    ss_mixed_precision: optimizer.mixedPrecision,
    ss_gradient_checkpointing: pythonStr(optimizer.gradientCheckpointing),
  };
}

function baseKeys({ version, isV2, name, shortHash, sha256, vae }: BaseModelInput): Record<string, string> {
  const keys: Record<string, string> = {
    ss_v2: pythonStr(isV2),
    ss_base_model_version: version,
    ss_sd_model_name: name,
  };
  if (shortHash != null) keys.ss_sd_model_hash = shortHash;
  if (sha256 != null) keys.ss_new_sd_model_hash = sha256;
  if (vae != null) {
    keys.ss_vae_name = vae.name;
    if (vae.shortHash != null) keys.ss_vae_hash = vae.shortHash;
    if (vae.sha256 != null) keys.ss_new_vae_hash = vae.sha256;
  }
  return keys;
}

function dataKeys(data: DataFacts): Record<string, string> {
  const { buckets = null } = data;
  const dirs = Object.entries(data.datasetDirs).map(([dir, { numRepeats, imageCount }]) => [
    dir,
    { n_repeats: numRepeats, img_count: imageCount },
  ]);
  return {
    ss_batch_size_per_device: String(data.batchSize),
    ss_resolution: `(${data.resolution.join(", ")})`,
    ss_clip_skip: pythonStr(data.clipSkip ?? null),
    ss_cache_latents: pythonStr(data.cacheLatents),
    ss_keep_tokens: String(data.keepTokens ?? 0),
    ss_shuffle_caption: pythonStr(data.shuffleCaption ?? false),
    ss_caption_dropout_rate: pythonFloat(data.captionDropoutRate ?? 0),
    ss_flip_aug: pythonStr(data.flipAug ?? false),
    ss_random_crop: pythonStr(data.randomCrop ?? false),
    ss_enable_bucket: pythonStr(buckets !== null),
    ss_bucket_no_upscale: pythonStr(buckets?.noUpscale ?? false),
    ss_min_bucket_reso: pythonStr(buckets?.min ?? null),
    ss_max_bucket_reso: pythonStr(buckets?.max ?? null),
    ...(buckets !== null && { ss_bucket_reso_steps: String(buckets.steps) }),
    ss_bucket_info: buckets === null ? "null" : bucketInfo(buckets),
    ss_dataset_dirs: pythonJson(Object.fromEntries(dirs)),
    ss_reg_dataset_dirs: "{}",
    ss_tag_frequency: pythonJson(data.tagFrequency ?? {}),
    ss_validation_split: pythonFloat(data.validationSplit ?? 0),
    ss_validation_seed: pythonStr(data.validationSeed ?? null),
  };
}

function bucketInfo({ sizes, meanAspectError }: NonNullable<DataFacts["buckets"]>): string {
  const byNumber = pythonJson(Object.fromEntries(sizes.entries()));
  // A float in Python, also where it is whole.
  return `{"buckets": ${byNumber}, "mean_img_ar_error": ${pythonFloat(meanAspectError)}}`;
}

function lossKeys(loss: LossFacts): Record<string, string> {
  return {
    ss_min_snr_gamma: floatOrNone(loss.minSnrGamma),
    ss_noise_offset: floatOrNone(loss.noiseOffset),
    ss_zero_terminal_snr: pythonStr(loss.zeroTerminalSnr ?? false),
    ss_prior_loss_weight: pythonFloat(loss.priorLossWeight ?? 1),
  };
}

function floatOrNone(value: number | null | undefined): string {
  return value == null ? "None" : pythonFloat(value);
}

/** Python's `time.time()`: seconds with a fraction. */
function unixSeconds(date: Date): string {
  return pythonFloat(date.getTime() / 1000);
}
