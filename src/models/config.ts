/**
 * The sizes of a Stable Diffusion model, whatever file they were read from.
 *
 * Level 0 is the full latent resolution; every next level has half the height and width. All per-level arrays are
 * indexed by level, those of the up path too: up block `i` works on level `levels - 1 - i`.
 */

/** `sd1`: CLIP ViT-L text encoder; `sd2`: OpenCLIP ViT-H text encoder. */
export type ModelVersion = "sd1" | "sd2";

/** What the U-Net predicts: the noise, or the velocity of Salimans & Ho 2022 (arXiv:2202.00512). */
export type PredictionType = "epsilon" | "v_prediction";

/** Sizes of a `UNet2DConditionModel` (diffusers' words; the U-Net of Stable Diffusion 1.x and 2.x). */
export interface UnetConfig {
  /** Latent channels in; 4. */
  readonly inChannels: number;
  /** Channels predicted; 4. */
  readonly outChannels: number;
  /** Width of each level. */
  readonly blockOutChannels: readonly number[];
  /** Resnets in the down block of each level; the up block of the level has one more. */
  readonly layersPerBlock: readonly number[];
  /** Transformer blocks behind each resnet of a level's down block; 0: the level has no attention. */
  readonly downTransformerDepth: readonly number[];
  /** Transformer blocks between the two resnets of the middle block; 0: no attention there. */
  readonly midTransformerDepth: number;
  /** Transformer blocks behind each resnet of a level's up block; 0: the level has no attention. */
  readonly upTransformerDepth: readonly number[];
  /** Width of the text encoder's output: 768 (SD 1.x), 1024 (SD 2.x). */
  readonly crossAttentionDim: number;
  /** Attention heads of each level; the middle block has those of the last level. */
  readonly headsPerLevel: readonly number[];
  /** Groups of every GroupNorm, those in front of the transformers included. */
  readonly normNumGroups: number;
  /** Epsilon of the resnets' GroupNorms. (Those in front of the transformers: always 1e-6.) */
  readonly normEps: number;
  /** `proj_in` and `proj_out` of the transformers are Linear (SD 2.x) instead of 1x1 convolutions (SD 1.x). */
  readonly useLinearProjection: boolean;
  /** Width of the timestep embedding after its two Linear layers; its sinusoid has `blockOutChannels[0]`. */
  readonly timeEmbedDim: number;
  /** The sinusoid is [cos, sin] instead of [sin, cos]. */
  readonly flipSinToCos: boolean;
  /** Subtracted from half the width in the denominator of the sinusoid's frequencies. */
  readonly freqShift: number;
}

/** Sizes of a CLIP text transformer (transformers' `CLIPTextModel`). */
export interface ClipTextConfig {
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly layers: number;
  readonly heads: number;
  /** `x * sigmoid(1.702 x)` in SD 1.x, the exact (erf) GELU in SD 2.x. */
  readonly activation: "quick_gelu" | "gelu";
  readonly maxPositions: number;
  readonly vocabSize: number;
  readonly layerNormEps: number;
}

/** Sizes of an `AutoencoderKL`; encoder and decoder are mirror images, the decoder with one resnet more per level. */
export interface VaeConfig {
  /** Image channels; 3. */
  readonly inChannels: number;
  readonly latentChannels: number;
  /** Width of each level, level 0 being the image's resolution. */
  readonly blockOutChannels: readonly number[];
  /** Resnets in each down block of the encoder; the up blocks of the decoder have one more. */
  readonly layersPerBlock: number;
  readonly normNumGroups: number;
  readonly normEps: number;
  /** Latents are multiplied by this before the U-Net sees them. */
  readonly scalingFactor: number;
}

/** Image pixels per latent pixel along one side: 8 for Stable Diffusion's four levels. */
export function vaeDownsampleFactor(config: VaeConfig): number {
  return 2 ** (config.blockOutChannels.length - 1);
}

/** The base model as sd-scripts writes it into `ss_base_model_version`: `sd_v1`, `sd_v1_v`, `sd_v2` or `sd_v2_v`. */
export function baseModelVersion(version: ModelVersion, predictionType: PredictionType): string {
  return `sd_${version === "sd2" ? "v2" : "v1"}${predictionType === "v_prediction" ? "_v" : ""}`;
}
