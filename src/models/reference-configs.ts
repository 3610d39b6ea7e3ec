/**
 * The published models' sizes, for tests and benchmarks at full scale.
 *
 * Sources: the `config.json` files of the diffusers repositories of Stable Diffusion 1.5 and 2.1, and
 * `v1-inference.yaml` / `v2-inference.yaml` of the original repositories.
 */
import type { ClipTextConfig, UnetConfig, VaeConfig } from "./config.js";

/** U-Net of Stable Diffusion 1.1 to 1.5: 860 million parameters. */
export const SD15_UNET: UnetConfig = {
  inChannels: 4,
  outChannels: 4,
  blockOutChannels: [320, 640, 1280, 1280],
  layersPerBlock: [2, 2, 2, 2],
  downTransformerDepth: [1, 1, 1, 0],
  midTransformerDepth: 1,
  upTransformerDepth: [1, 1, 1, 0],
  crossAttentionDim: 768,
  headsPerLevel: [8, 8, 8, 8],
  normNumGroups: 32,
  normEps: 1e-5,
  useLinearProjection: false,
  timeEmbedDim: 1280,
  flipSinToCos: true,
  freqShift: 0,
};

/** Text encoder of Stable Diffusion 1.x: the text half of OpenAI's CLIP ViT-L/14. */
export const SD15_TEXT: ClipTextConfig = {
  hiddenSize: 768,
  intermediateSize: 3072,
  layers: 12,
  heads: 12,
  activation: "quick_gelu",
  maxPositions: 77,
  vocabSize: 49408,
  layerNormEps: 1e-5,
};

/** U-Net of Stable Diffusion 2.0 and 2.1, base and 768-v alike. */
export const SD21_UNET: UnetConfig = {
  ...SD15_UNET,
  crossAttentionDim: 1024,
  headsPerLevel: [5, 10, 20, 20],
  useLinearProjection: true,
};

/** Text encoder of Stable Diffusion 2.x: OpenCLIP ViT-H/14 without the last of its 24 layers. */
export const SD21_TEXT: ClipTextConfig = {
  hiddenSize: 1024,
  intermediateSize: 4096,
  layers: 23,
  heads: 16,
  activation: "gelu",
  maxPositions: 77,
  vocabSize: 49408,
  layerNormEps: 1e-5,
};

/** Autoencoder of Stable Diffusion 1.x and 2.x. */
export const SD_VAE: VaeConfig = {
  inChannels: 3,
  latentChannels: 4,
  blockOutChannels: [128, 256, 512, 512],
  layersPerBlock: 2,
  normNumGroups: 32,
  normEps: 1e-6,
  scalingFactor: 0.18215,
};

/**
 * U-Net of SDXL base 1.0, for the names and shapes of its modules; its added embedding of sizes is in structure/sdxl.ts.
 *
 * Source: `sd_xl_base.yaml` of the original repository and the `config.json` of the diffusers one.
 */
export const SDXL_UNET: UnetConfig = {
  ...SD15_UNET,
  blockOutChannels: [320, 640, 1280],
  layersPerBlock: [2, 2, 2],
  downTransformerDepth: [0, 2, 10],
  midTransformerDepth: 10,
  upTransformerDepth: [0, 2, 10],
  crossAttentionDim: 2048,
  headsPerLevel: [5, 10, 20],
  useLinearProjection: true,
};

/** First text encoder of SDXL: the same as that of Stable Diffusion 1.x. */
export const SDXL_TEXT: ClipTextConfig = SD15_TEXT;

/** Second text encoder of SDXL: the text half of OpenCLIP ViT-bigG/14. */
export const SDXL_TEXT_2: ClipTextConfig = {
  hiddenSize: 1280,
  intermediateSize: 5120,
  layers: 32,
  heads: 20,
  activation: "gelu",
  maxPositions: 77,
  vocabSize: 49408,
  layerNormEps: 1e-5,
};
