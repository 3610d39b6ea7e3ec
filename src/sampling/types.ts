/** What drawing pictures takes and gives. */

import type { Checkpoint } from "../models/checkpoint/types.js";
import type { PredictionType } from "../models/config.js";
import type { DeviceName } from "../runtime/device.js";
import type { ExecutionMode } from "../runtime/session.js";
import type { PreparedWeights } from "../runtime/weights/prepared-weights.js";
import type { LoadedAdapter } from "./loaded-adapter.js";
import type { NoiseSpacing, SamplerName } from "./sampler-names.js";

/** What sd-scripts draws samples with, unless the prompt says otherwise. */
export const IMAGE_DEFAULTS = {
  negativePrompt: "",
  steps: 30,
  scale: 7.5,
  sampler: "ddim",
  spacing: "uniform",
  adapters: [],
} as const satisfies Partial<ImageRequest>;

/** An adapter at a rank and strength. */
export interface AppliedAdapter {
  readonly adapter: LoadedAdapter;
  /** Components `0..rank` take part, at the strength of the extracted file of that rank; 0: none. */
  readonly rank: number;
  /** Times the adapter's own strength. Default 1. */
  readonly multiplier?: number;
}

/** One picture. It depends on nothing but what stands here, the checkpoint, and the device. */
export interface ImageRequest {
  readonly prompt: string;
  readonly negativePrompt?: string;
  /** Whole number from 0. */
  readonly seed: number;
  /** In pixels; multiples of `resolutionMultiple(checkpoint)`, which is 64 for Stable Diffusion. */
  readonly width: number;
  readonly height: number;
  /** Steps from noise to picture, 1 to 1000. */
  readonly steps?: number;
  /** Classifier-free guidance: 1 switches it off, and with it the negative prompt. */
  readonly scale?: number;
  readonly sampler?: SamplerName;
  readonly spacing?: NoiseSpacing;
  /** Added up; empty: the base model. */
  readonly adapters?: readonly AppliedAdapter[];
}

export interface GenerateRequest {
  readonly checkpoint: Checkpoint;
  readonly images: readonly ImageRequest[];
  readonly device: DeviceName;
  /** Default `auto`: looks at the number of evaluations and the free memory. */
  readonly executionMode?: "auto" | ExecutionMode;
  /** Of a denoiser of the same checkpoint that goes on beside. */
  readonly prepared?: PreparedWeights;
  /** CPU threads of one operator; default: number of physical cores. */
  readonly threads?: number;
  /** The text encoder's n-th layer from the end; default 1. */
  readonly clipSkip?: number;
  /** Default: what the checkpoint says. */
  readonly predictionType?: PredictionType;
  /** The noise schedule was rescaled so that the last timestep is pure noise. Default false. */
  readonly zeroTerminalSnr?: boolean;
}

export interface GenerateProgress {
  /** Place of the picture in the request, from 0, and how many there are. */
  readonly image: number;
  readonly images: number;
  /** Steps of this picture that are done. */
  readonly step: number;
  readonly steps: number;
}

export interface GenerateHooks {
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: GenerateProgress) => void;
  readonly onWarning?: (message: string) => void;
}

export interface GeneratedImage {
  /** Place in the request, from 0. */
  readonly index: number;
  /** What it was drawn from, defaults filled in. */
  readonly request: Required<ImageRequest>;
  readonly clipSkip: number;
  readonly width: number;
  readonly height: number;
  /** Red, green, blue of every pixel, row by row from the top: `width * height * 3` bytes. */
  readonly pixels: Uint8Array;
  readonly seconds: number;
}
