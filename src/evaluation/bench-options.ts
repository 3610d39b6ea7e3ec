/** Options of a rank comparison, as data. */
import type { OptionTable } from "../options/option-spec.js";
import { SHARED_OPTIONS } from "../options/shared-options.js";

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
    description:
      "ranks to compare, for example 4,8,16; every file is measured at those that it has, and at its full rank; 0 is the " +
      "base model, which is always measured",
    defaultText: "every rank that was trained, at most 8 of them",
  },
  v2: SHARED_OPTIONS.v2,
  v_parameterization: SHARED_OPTIONS.v_parameterization,
  vae: SHARED_OPTIONS.vae,
  clip_skip: SHARED_OPTIONS.clip_skip,
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
  multiplier: {
    type: "numbers",
    default: [1],
    min: -10,
    max: 10,
    placeholder: "x,x",
    alsoCalled: ["multipliers", "strength", "weight", "network_mul"],
    group: "Ranks",
    common: true,
    description: "strengths to measure every rank at, as <lora:name:0.8> has them, for example 0.5,0.75,1",
  },
  // Trainings of the demo that differ in their seed alone differ by 1.5 to 2.9 % of the gain at a rank (three seeds): a loss
  // of that size is no reason to take a larger file. The interval needs some room above it.
  tolerance: {
    type: "number",
    default: 0.05,
    min: 0,
    below: 1,
    group: "Ranks",
    description:
      "share of the best rank's improvement on the base model that the recommended rank may lose: it is the smallest rank " +
      "that is shown (by the 95 % interval) to lose no more",
  },
  samples: {
    type: "integer",
    default: null,
    min: 1,
    max: 4000,
    group: "Measurement",
    common: true,
    description:
      "noise and timestep draws per image, at most where --until is given; rounded up to a multiple of 4, one from each " +
      "quarter of the timesteps",
    defaultText: "4; 64 with --until",
  },
  until: {
    type: "number",
    default: null,
    above: 0,
    below: 1,
    group: "Measurement",
    common: true,
    description:
      "go on drawing, 4 samples per image at a time, until half the width of every rank's interval against the full rank " +
      "(of a file with one rank: against the base model) is at most x times the base model's loss, for example 0.01",
  },
  cache: {
    type: "path",
    default: null,
    placeholder: "file",
    group: "Measurement",
    common: true,
    description: "keep every measured loss in this file (JSON lines), and measure nothing that is in it",
    defaultText: "beside the page that --report writes",
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
  device: SHARED_OPTIONS.device,
  threads: SHARED_OPTIONS.threads,
  execution_mode: SHARED_OPTIONS.execution_mode,
} as const satisfies OptionTable;
