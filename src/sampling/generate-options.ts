/** Options of `dylora generate`, as data; names as in sd-scripts (`gen_img.py`, `--sample_…`) where it has the option. */

import type { ConfigOf, OptionTable } from "../options/option-spec.js";
import { completeOptions, readConfigObject } from "../options/read-options.js";
import { SHARED_OPTIONS } from "../options/shared-options.js";
import { MOST_STEPS } from "./noise-levels.js";
import { NOISE_SPACINGS, SAMPLER_ALIASES, SAMPLER_NAMES, SAMPLERS_ELSEWHERE } from "./sampler-names.js";
import { IMAGE_DEFAULTS } from "./types.js";

export const GENERATE_OPTIONS = {
  pretrained_model_name_or_path: {
    type: "path",
    default: null,
    required: true,
    alsoCalled: ["model", "checkpoint", "base_model", "ckpt"],
    group: "Model",
    common: true,
    description: "Stable Diffusion 1.x or 2.x checkpoint: a .safetensors file or a diffusers folder",
  },
  prompt: {
    type: "text",
    default: null,
    group: "Picture",
    common: true,
    description: "what to draw; what is longer than 75 tokens is cut",
  },
  negative_prompt: {
    type: "text",
    default: "",
    alsoCalled: ["n", "negative"],
    group: "Picture",
    common: true,
    description: "what to keep away from; has no effect with scale 1",
    defaultText: "empty",
  },
  from_file: {
    type: "path",
    default: null,
    alsoCalled: ["sample_prompts", "prompts", "prompt_file"],
    placeholder: "prompts.txt",
    group: "Picture",
    common: true,
    description:
      "prompts from a .txt (a line each, with --n --w --h --d --s --l --ss), .toml or .json file, as in sd-scripts",
  },
  ranks: {
    type: "integers",
    default: null,
    min: 0,
    alsoCalled: ["rank", "sample_ranks"],
    placeholder: "n,n",
    group: "Picture",
    common: true,
    description: "draw every picture at each of these ranks with the same seed; 0 is the base model",
    defaultText: "the full rank",
  },
  images_per_prompt: {
    type: "integer",
    default: 1,
    min: 1,
    max: 10_000,
    alsoCalled: ["images", "n_iter", "num_images", "count", "batch_count"],
    group: "Picture",
    common: true,
    description: "pictures of every prompt; their seeds count up from seed",
  },
  seed: {
    type: "integer",
    default: null,
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
    group: "Picture",
    common: true,
    description: "seed of the noise; the same seed on the same device gives the same picture",
    defaultText: "random, written into the picture",
  },
  steps: {
    type: "integer",
    default: IMAGE_DEFAULTS.steps,
    min: 1,
    max: MOST_STEPS,
    alsoCalled: ["sample_steps", "num_inference_steps"],
    group: "Picture",
    common: true,
    description: "steps from noise to picture",
  },
  scale: {
    type: "number",
    default: IMAGE_DEFAULTS.scale,
    min: 0,
    max: 1000,
    alsoCalled: ["cfg_scale", "cfg", "guidance_scale"],
    group: "Picture",
    common: true,
    description: "how strongly the picture follows the prompt (classifier-free guidance); 1 is twice as fast",
  },
  sampler: {
    type: "enum",
    default: IMAGE_DEFAULTS.sampler,
    values: SAMPLER_NAMES,
    aliases: SAMPLER_ALIASES,
    refused: SAMPLERS_ELSEWHERE,
    ignoreCase: true,
    alsoCalled: ["sample_sampler", "scheduler"],
    group: "Picture",
    common: true,
    description: "sampler",
  },
  schedule_type: {
    type: "enum",
    default: IMAGE_DEFAULTS.spacing,
    values: NOISE_SPACINGS,
    ignoreCase: true,
    alsoCalled: ["karras", "spacing"],
    group: "Picture",
    description:
      "noise levels of the steps: evenly spaced timesteps, or more of them where there is little noise",
  },
  resolution: {
    type: "resolution",
    default: null,
    placeholder: "px",
    alsoCalled: ["size", "width", "height"],
    group: "Picture",
    common: true,
    description: "size in pixels: 512, or width,height; multiples of 64",
    defaultText: "as the adapter was trained, or 512",
  },
  v2: SHARED_OPTIONS.v2,
  v_parameterization: SHARED_OPTIONS.v_parameterization,
  vae: SHARED_OPTIONS.vae,
  clip_skip: SHARED_OPTIONS.clip_skip,
  output_dir: {
    type: "path",
    default: "images",
    alsoCalled: ["output", "out", "outdir", "save_to"],
    group: "Output",
    common: true,
    description: "folder for the pictures; it is made where it does not exist",
  },
  force: {
    type: "boolean",
    default: false,
    alsoCalled: ["overwrite"],
    group: "Output",
    common: true,
    description: "replace pictures that exist",
  },
  device: SHARED_OPTIONS.device,
  threads: SHARED_OPTIONS.threads,
  execution_mode: SHARED_OPTIONS.execution_mode,
} as const satisfies OptionTable;

/** An adapter as it was named: a file, and what should differ from its full rank and own strength. */
export interface AdapterChoice {
  readonly path: string;
  /** Null: the file's maximum, or each of `ranks`. */
  readonly rank: number | null;
  readonly multiplier: number;
}

/** Field names are the option names of {@link GENERATE_OPTIONS} in camelCase, where units and defaults are described. */
export interface GenerateOptions extends ConfigOf<typeof GENERATE_OPTIONS> {
  /** Added up in every picture. */
  readonly adapters: readonly AdapterChoice[];
}

/** The options that have no default, and any of the others. */
export type GenerateOptionsInput = Pick<GenerateOptions, "pretrainedModelNameOrPath"> &
  Partial<Omit<GenerateOptions, "adapters">> & {
    readonly adapters?: readonly (Pick<AdapterChoice, "path"> & Partial<AdapterChoice>)[];
  };

/**
 * Completes options with the defaults and checks them.
 *
 * @throws {DyloraError} `E_CONFIG` for an unknown option or a value that does not fit
 */
export function createGenerateOptions(input: GenerateOptionsInput): GenerateOptions {
  const { adapters = [], ...given } = input;
  const set = { command: "generate", table: GENERATE_OPTIONS };
  return {
    ...completeOptions(set, readConfigObject(set, given), "E_CONFIG"),
    adapters: adapters.map((adapter) => ({ rank: null, multiplier: 1, ...adapter })),
  };
}
