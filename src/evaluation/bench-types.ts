/** What a rank comparison takes and gives. */
import type { ConfigOf, OptionTable } from "../options/option-spec.js";
import type { DeviceName } from "../runtime/device.js";

/** Options of a rank comparison, as data; names as in training where training has the option. */
export const BENCH_OPTIONS = {
  pretrained_model_name_or_path: {
    type: "path",
    default: null,
    required: true,
    alsoCalled: ["model", "checkpoint", "base_model"],
    group: "Model",
    common: true,
    description: "checkpoint that the adapters were trained on: a .safetensors file or a diffusers folder",
  },
  data: {
    type: "path",
    default: null,
    required: true,
    group: "Data",
    common: true,
    description: "held-out images: a flat folder with captions, or <repeats>_<class> folders",
  },
  ranks: {
    type: "integers",
    default: null,
    min: 0,
    placeholder: "n,n",
    group: "Ranks",
    common: true,
    description: "ranks to compare, for example 4,8,16; 0 is the base model, which is always measured",
    defaultText: "every rank that was trained, at most 8 of them",
  },
  v2: {
    type: "boolean",
    default: false,
    group: "Model",
    description: "the checkpoint is Stable Diffusion 2.x (otherwise found out from its tensors)",
  },
  v_parameterization: {
    type: "boolean",
    default: false,
    group: "Model",
    description: "the model predicts v instead of the noise (SD 2.x 768)",
  },
  vae: {
    type: "path",
    default: null,
    group: "Model",
    description: "another VAE than the checkpoint's",
    defaultText: "the checkpoint's",
  },
  clip_skip: {
    type: "integer",
    default: null,
    min: 1,
    group: "Model",
    description: "take the text encoder's n-th layer from the end; 1 is the last",
    defaultText: "as the adapter was trained",
  },
  resolution: {
    type: "resolution",
    default: null,
    placeholder: "px",
    group: "Data",
    common: true,
    description: "size in pixels: 512, or width,height",
    defaultText: "as the adapter was trained",
  },
  enable_bucket: {
    type: "boolean",
    default: false,
    group: "Data",
    description: "measure every image at a size of about its own shape and the area of resolution",
    defaultText: "as the adapter was trained, unless resolution is given",
  },
  caption_extension: {
    type: "text",
    default: ".caption",
    placeholder: ".ext",
    group: "Data",
    description: "caption file that wins where an image has several; .caption and .txt are both read",
  },
  max_images: {
    type: "integer",
    default: null,
    min: 1,
    group: "Data",
    description: "measure on at most n images, drawn with seed",
    defaultText: "all",
  },
  samples: {
    type: "integer",
    default: 4,
    min: 1,
    max: 1000,
    group: "Measurement",
    common: true,
    description: "noise and timestep draws per image; more of them narrow the intervals",
  },
  batch_size: {
    type: "integer",
    default: 1,
    min: 1,
    group: "Measurement",
    alsoCalled: ["train_batch_size"],
    description: "samples computed at once",
  },
  seed: {
    type: "integer",
    default: 0,
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
    group: "Measurement",
    description: "seed of images, noises and timesteps; every rank and file gets the same ones",
  },
  max_data_loader_n_workers: {
    type: "integer",
    default: null,
    min: 0,
    max: 256,
    group: "Execution",
    description: "number of images decoded in parallel",
    defaultText: "the smaller of 8 and cores - 1",
  },
  device: {
    type: "enum",
    default: "auto",
    values: ["auto", "cpu", "webgpu", "cuda"],
    group: "Execution",
    common: true,
    description: "where to compute; auto takes the best that works, a device named here is never replaced",
  },
  threads: {
    type: "integer",
    default: null,
    min: 1,
    max: 1024,
    group: "Execution",
    description: "CPU threads of one operator",
    defaultText: "number of physical cores",
  },
  execution_mode: {
    type: "enum",
    default: "auto",
    values: ["auto", "fast", "lean"],
    group: "Execution",
    description: "fast prepares the weights once (more memory), lean starts at once",
  },
} as const satisfies OptionTable;

/** A complete set of options, with the adapter files that are compared on the same samples. */
export interface BenchOptions extends ConfigOf<typeof BENCH_OPTIONS> {
  readonly files: readonly string[];
}

/**
 * Mean of paired differences with its 95 % confidence interval, which is infinite where there are too few images for one
 * (JSON has null for that).
 */
export interface PairedDifference {
  readonly mean: number;
  readonly ciLow: number;
  readonly ciHigh: number;
}

/** One file at one rank. */
export interface RankResult {
  readonly rank: number;
  readonly meanLoss: number;
  /** Loss here minus loss at the file's full rank, sample by sample; null for the full rank itself. */
  readonly versusFullRank: PairedDifference | null;
  /** Loss here minus loss of the base model without adapter, sample by sample. */
  readonly versusBase: PairedDifference;
  /** Size of the file that `extract` writes for this rank, in bytes. */
  readonly fileSizeBytes: number;
}

export interface FileResult {
  readonly path: string;
  readonly maxRank: number;
  /** Ascending by rank. */
  readonly ranks: readonly RankResult[];
  /** The smallest rank that is statistically as good as the best one. */
  readonly recommendedRank: number;
  /** Why, in one sentence. */
  readonly recommendation: string;
}

export interface BenchReport {
  readonly device: DeviceName;
  readonly provider: string;
  readonly modelPath: string;
  readonly dataDir: string;
  /** With buckets only the area counts. */
  readonly width: number;
  readonly height: number;
  /** The sizes that images were measured at, by width, then height; empty without buckets. */
  readonly buckets: readonly {
    readonly width: number;
    readonly height: number;
    readonly imageCount: number;
  }[];
  readonly imageCount: number;
  /** Losses measured for each file and rank: images times draws per image. */
  readonly sampleCount: number;
  readonly seed: number;
  /** The base model without adapter ("rank 0"). */
  readonly baseMeanLoss: number;
  readonly files: readonly FileResult[];
  readonly warnings: readonly string[];
  readonly seconds: number;
  readonly peakRssBytes: number;
}

export interface BenchProgress {
  /** What is being measured, as `rank 8 of cat.safetensors`. */
  readonly task: string;
  readonly done: number;
  readonly total: number;
}

export interface BenchHooks {
  readonly onProgress: (progress: BenchProgress) => void;
  readonly signal: AbortSignal;
}
