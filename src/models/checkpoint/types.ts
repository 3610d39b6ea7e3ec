import type { Dtype } from "../../safetensors/index.js";
import type { ClipTextConfig, ModelVersion, PredictionType, UnetConfig, VaeConfig } from "../config.js";

/** Where a weight's numbers lie: read it, or let a runtime map it, from the user's own file. */
export interface WeightRef {
  /** Real path of the file, symbolic links resolved. */
  readonly filePath: string;
  readonly dtype: Extract<Dtype, "F32" | "F16" | "BF16">;
  /** First byte, counted from the start of the file. */
  readonly offsetBytes: number;
  readonly sizeBytes: number;
  /** The canonical shape; row-major, contiguous. */
  readonly shape: readonly number[];
}

/** Canonical weight name to its place, in the model's registration order. */
export type Weights = ReadonlyMap<string, WeightRef>;

export interface ModelPart<Config> {
  readonly config: Config;
  readonly weights: Weights;
}

/** Where `predictionType` was learnt; `default` means that nobody said and epsilon was assumed. */
export type PredictionTypeSource = "scheduler" | "metadata" | "option" | "default";

/** What the checkpoint itself says that its U-Net predicts. */
export interface DeclaredPrediction {
  readonly predictionType: PredictionType;
  readonly source: Extract<PredictionTypeSource, "scheduler" | "metadata">;
}

/** The parts of a checkpoint before the options have their say. */
export interface CheckpointParts {
  readonly version: ModelVersion;
  readonly unet: ModelPart<UnetConfig>;
  readonly textEncoder: ModelPart<ClipTextConfig>;
  readonly vae: ModelPart<VaeConfig> | null;
  readonly declaredPrediction: DeclaredPrediction | null;
  readonly tokenizerDir: string | null;
}

/** A Stable Diffusion 1.x or 2.x model on disk. Nothing but headers and configs has been read. */
export interface Checkpoint {
  /** As given. */
  readonly path: string;
  readonly layout: "single-file" | "diffusers";
  readonly version: ModelVersion;
  readonly unet: ModelPart<UnetConfig>;
  readonly textEncoder: ModelPart<ClipTextConfig>;
  /** null: the checkpoint has none. */
  readonly vae: ModelPart<VaeConfig> | null;
  readonly predictionType: PredictionType;
  readonly predictionTypeSource: PredictionTypeSource;
  /** `ss_base_model_version` as sd-scripts writes it, e.g. `sd_v2_v`. */
  readonly baseModelVersion: string;
  /** Folder with the tokenizer's files; null where the checkpoint has none. */
  readonly tokenizerDir: string | null;
}

export interface OpenCheckpointOptions {
  /** sd-scripts' `--v2`. Left out, the version is read from the file; given, it must agree with the file. */
  v2?: boolean;
  /**
   * sd-scripts' `--v_parameterization`. Used where the checkpoint does not say what its U-Net predicts (single files
   * rarely do); must agree with the scheduler config of a diffusers folder. Left out: epsilon unless the file says so.
   */
  vParameterization?: boolean;
  /** A VAE to use instead of the checkpoint's own: file (original or diffusers names) or diffusers folder. */
  vaePath?: string;
}
