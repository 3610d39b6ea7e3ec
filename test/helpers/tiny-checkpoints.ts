/** Sizes of the smallest models that have every structure of Stable Diffusion 1.x and 2.x. */
import type { CheckpointConfigs } from "../../src/models/checkpoint/index.js";
import { SD_VAE, SD15_TEXT, SD15_UNET } from "../../src/models/reference-configs.js";
import type { SparseTensor } from "./sparse-safetensors.js";

export const SD1_TINY: CheckpointConfigs = {
  version: "sd1",
  unet: {
    ...SD15_UNET,
    blockOutChannels: [32, 64],
    layersPerBlock: [1, 1],
    downTransformerDepth: [1, 0],
    upTransformerDepth: [1, 0],
    headsPerLevel: [8, 8],
    crossAttentionDim: 64,
    timeEmbedDim: 128,
  },
  textEncoder: { ...SD15_TEXT, hiddenSize: 64, intermediateSize: 256, heads: 1, layers: 2, vocabSize: 100 },
  vae: { ...SD_VAE, blockOutChannels: [32, 64], layersPerBlock: 1 },
};
export const SD2_TINY: CheckpointConfigs = {
  version: "sd2",
  unet: {
    ...SD1_TINY.unet,
    blockOutChannels: [64, 128],
    headsPerLevel: [1, 2],
    timeEmbedDim: 256,
    useLinearProjection: true,
  },
  textEncoder: { ...SD1_TINY.textEncoder, activation: "gelu", layers: 3 },
  vae: SD1_TINY.vae,
};

/** Changes the names in place. */
export function renameTensors(tensors: Map<string, SparseTensor>, newName: (name: string) => string): void {
  const entries = [...tensors];
  tensors.clear();
  for (const [name, tensor] of entries) tensors.set(newName(name), tensor);
}
