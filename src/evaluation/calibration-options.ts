/** Options of a calibration, as data; names as in `bench`. */
import type { ConfigOf, OptionTable } from "../options/option-spec.js";
import { BENCH_OPTIONS } from "./bench-options.js";

const GROUP = "Calibration";

/** Common there, and here of no use without --calibrate. */
const { common: _resolution, ...RESOLUTION } = BENCH_OPTIONS.resolution;
const { common: _device, ...DEVICE } = BENCH_OPTIONS.device;

export const CALIBRATION_OPTIONS = {
  pretrained_model_name_or_path: {
    type: "path",
    default: null,
    alsoCalled: ["model", "checkpoint", "base_model"],
    group: GROUP,
    common: true,
    description: "with --calibrate: the checkpoint that the adapter was trained on",
  },
  max_images: {
    type: "integer",
    default: 8,
    min: 1,
    group: GROUP,
    description: "with --calibrate: measure on at most n images, drawn with seed",
  },
  samples: {
    type: "integer",
    default: 4,
    min: 1,
    max: 4000,
    group: GROUP,
    description:
      "with --calibrate: noise and timestep draws per image, each of which takes as long as a training step; rounded up to a multiple of 4",
  },
  resolution: { ...RESOLUTION, group: GROUP },
  seed: { ...BENCH_OPTIONS.seed, group: GROUP, description: "seed of images, noises and timesteps" },
  v2: { ...BENCH_OPTIONS.v2, group: GROUP },
  v_parameterization: { ...BENCH_OPTIONS.v_parameterization, group: GROUP },
  vae: { ...BENCH_OPTIONS.vae, group: GROUP },
  clip_skip: { ...BENCH_OPTIONS.clip_skip, group: GROUP },
  caption_extension: { ...BENCH_OPTIONS.caption_extension, group: GROUP },
  device: { ...DEVICE, group: GROUP },
  threads: { ...BENCH_OPTIONS.threads, group: GROUP },
  execution_mode: { ...BENCH_OPTIONS.execution_mode, group: GROUP },
  gradient_checkpointing: {
    type: "boolean",
    default: false,
    group: GROUP,
    description: "compute activations twice to need less memory",
  },
} as const satisfies OptionTable;

export interface CalibrationOptions
  extends Omit<ConfigOf<typeof CALIBRATION_OPTIONS>, "pretrainedModelNameOrPath"> {
  readonly pretrainedModelNameOrPath: string;
  /** A folder of images with captions, as `bench` takes it. */
  readonly data: string;
}
