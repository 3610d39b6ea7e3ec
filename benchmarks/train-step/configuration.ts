/** What one run of the benchmark trains, and how. */

import { createRankPlan, type UpdateMode } from "../../src/dylora/index.js";
import { DyloraError } from "../../src/errors.js";
import { DEVICE_CHOICES, type DeviceName } from "../../src/runtime/device.js";
import type { ExecutionMode } from "../../src/runtime/session.js";
import { MODELS, type ModelName, WEIGHT_DTYPES, type WeightDtype } from "../full-size-checkpoint.js";
import { choice, wholeNumber } from "../setting.js";

export interface StepConfiguration {
  readonly model: ModelName;
  /** Of the weights in the checkpoint. */
  readonly dtype: WeightDtype;
  /** Side of the image in pixels. */
  readonly resolution: number;
  readonly batch: number;
  readonly rank: number;
  readonly unit: number;
  readonly alpha: number;
  readonly updateMode: UpdateMode;
  readonly trainsTextEncoder: boolean;
  readonly device: DeviceName;
  readonly mode: ExecutionMode;
  readonly gradientCheckpointing: boolean;
  readonly mixedPrecision: "no" | "fp16";
  readonly threads: number;
  /** All steps; the first is not a warm one. */
  readonly steps: number;
  readonly profile: boolean;
}

/** The command line's options of a single configuration, for `parseArgs`. */
export const CONFIGURATION_OPTIONS = {
  model: { type: "string", default: "sd15" },
  dtype: { type: "string", default: "fp16" },
  res: { type: "string", default: "256" },
  batch: { type: "string", default: "1" },
  rank: { type: "string", default: "16" },
  unit: { type: "string", default: "4" },
  alpha: { type: "string", default: "1" },
  update_mode: { type: "string", default: "full" },
  "text-encoder": { type: "boolean", default: false },
  device: { type: "string", default: "cpu" },
  mode: { type: "string", default: "fast" },
  gradient_checkpointing: { type: "boolean", default: false },
  mixed_precision: { type: "string", default: "no" },
  threads: { type: "string", default: "2" },
  steps: { type: "string", default: "6" },
  profile: { type: "boolean", default: false },
} as const;

type OptionValues = {
  readonly [Name in keyof typeof CONFIGURATION_OPTIONS]: (typeof CONFIGURATION_OPTIONS)[Name]["type"] extends "boolean"
    ? boolean
    : string;
};

/** Pixels that a side must be a multiple of: 8 of the VAE, 8 of the U-Net's halvings. */
const RESOLUTION_MULTIPLE = 64;

const DEVICES = DEVICE_CHOICES.filter((name) => name !== "auto");

/** @throws {DyloraError} `E_USAGE`, `E_RANK` */
export function readConfiguration(values: OptionValues): StepConfiguration {
  const resolution = wholeNumber("res", values.res, RESOLUTION_MULTIPLE);
  if (resolution % RESOLUTION_MULTIPLE !== 0) {
    throw new DyloraError(
      "E_USAGE",
      `--res expects a multiple of ${RESOLUTION_MULTIPLE}, found ${values.res}`,
    );
  }
  const [rank, unit] = [wholeNumber("rank", values.rank, 1), wholeNumber("unit", values.unit, 1)];
  createRankPlan({ maxRank: rank, unit });
  return {
    model: choice("model", values.model, MODELS),
    dtype: choice("dtype", values.dtype, WEIGHT_DTYPES),
    resolution,
    batch: wholeNumber("batch", values.batch, 1),
    rank,
    unit,
    alpha: wholeNumber("alpha", values.alpha, 1),
    updateMode: choice("update_mode", values.update_mode, ["full", "frozen"]),
    trainsTextEncoder: values["text-encoder"],
    device: choice("device", values.device, DEVICES),
    mode: choice("mode", values.mode, ["fast", "lean"]),
    gradientCheckpointing: values.gradient_checkpointing,
    mixedPrecision: choice("mixed_precision", values.mixed_precision, ["no", "fp16"]),
    threads: wholeNumber("threads", values.threads, 1),
    steps: wholeNumber("steps", values.steps, 2),
    profile: values.profile,
  };
}

/** The configurations that the project promises figures for, as changes to what the command line says. */
export const MATRIX: readonly Partial<StepConfiguration>[] = [
  { resolution: 256, rank: 16, mode: "fast" },
  { resolution: 256, rank: 16, mode: "lean" },
  { resolution: 256, rank: 128, mode: "fast" },
  { resolution: 256, rank: 128, mode: "fast", updateMode: "frozen" },
  { resolution: 256, rank: 16, mode: "fast", trainsTextEncoder: true },
  { resolution: 256, rank: 16, mode: "fast", dtype: "fp32" },
  { resolution: 256, rank: 16, mode: "lean", dtype: "fp32" },
  { resolution: 256, rank: 16, mode: "fast", batch: 2 },
  { resolution: 512, rank: 16, mode: "fast" },
  { resolution: 512, rank: 16, mode: "fast", gradientCheckpointing: true },
  { resolution: 512, rank: 16, mode: "lean", gradientCheckpointing: true },
  { resolution: 512, rank: 128, mode: "fast" },
];

/** `256 px, rank 16/4, fast`: what differs from the plainest configuration. */
export function describe(configuration: StepConfiguration): string {
  const { model, dtype, resolution, batch, rank, unit, alpha, updateMode, device, mode } = configuration;
  return [
    `${resolution} px`,
    `rank ${rank}/${unit}`,
    mode,
    ...(model === "sd15" ? [] : [model]),
    ...(dtype === "fp16" ? [] : [dtype]),
    ...(batch === 1 ? [] : [`batch ${batch}`]),
    ...(alpha === 1 ? [] : [`alpha ${alpha}`]),
    ...(updateMode === "full" ? [] : [updateMode]),
    ...(configuration.trainsTextEncoder ? ["text encoder"] : []),
    ...(configuration.gradientCheckpointing ? ["checkpointing"] : []),
    ...(configuration.mixedPrecision === "no" ? [] : ["mixed precision"]),
    ...(device === "cpu" ? [] : [device]),
  ].join(", ");
}
