/** Stable Diffusion's autoencoder (Esser et al. 2021, arXiv:2012.09841; Rombach et al. 2022) as a graph. */

import { attention } from "../graph/ops/attention.js";
import { add } from "../graph/ops/elementwise.js";
import { slice, upsampleNearest2x } from "../graph/ops/shape.js";
import { fixedShape, type Tensor } from "../graph/tensor.js";
import type { VaeConfig } from "./config.js";
import { imageToTokens, type Layers, tokensToImage } from "./layers.js";

/**
 * Mean and log-variance of an image's latent distribution.
 *
 * @param image - `[N, 3, H, W]` in [-1, 1]
 * @returns `[N, latentChannels, H / f, W / f]` each; the latent used in training is a sample times `scalingFactor`
 */
export function buildVaeEncoder(
  layers: Layers,
  config: VaeConfig,
  image: Tensor,
): { mean: Tensor; logvar: Tensor } {
  const { graph } = layers;
  const { blockOutChannels, layersPerBlock, latentChannels } = config;
  let x = layers.conv("encoder.conv_in", image, { padding: 1 });
  for (const level of blockOutChannels.keys()) {
    const block = `encoder.down_blocks.${level}`;
    for (let layer = 0; layer < layersPerBlock; layer++)
      x = resnet(layers, config, `${block}.resnets.${layer}`, x);
    if (level < blockOutChannels.length - 1) {
      // Padded at the far edges only.
      x = layers.conv(`${block}.downsamplers.0.conv`, x, { stride: 2, padding: [0, 0, 1, 1] });
    }
  }
  x = middle(layers, config, "encoder.mid_block", x);
  x = layers.groupNorm("encoder.conv_norm_out", x, { ...normOptions(config), activation: "silu" });
  const moments = layers.conv("quant_conv", layers.conv("encoder.conv_out", x, { padding: 1 }));
  return {
    mean: slice(graph, moments, 1, 0, latentChannels),
    logvar: slice(graph, moments, 1, latentChannels, 2 * latentChannels),
  };
}

/**
 * The image of a latent (already divided by `scalingFactor`).
 *
 * @param latent - `[N, latentChannels, h, w]`
 * @returns `[N, 3, h * f, w * f]`, about [-1, 1]
 */
export function buildVaeDecoder(layers: Layers, config: VaeConfig, latent: Tensor): Tensor {
  const { graph } = layers;
  const levels = config.blockOutChannels.length;
  let x = layers.conv("decoder.conv_in", layers.conv("post_quant_conv", latent), { padding: 1 });
  x = middle(layers, config, "decoder.mid_block", x);
  for (let index = 0; index < levels; index++) {
    const block = `decoder.up_blocks.${index}`;
    for (let layer = 0; layer <= config.layersPerBlock; layer++) {
      x = resnet(layers, config, `${block}.resnets.${layer}`, x);
    }
    if (index < levels - 1) {
      x = layers.conv(`${block}.upsamplers.0.conv`, upsampleNearest2x(graph, x), { padding: 1 });
    }
  }
  x = layers.groupNorm("decoder.conv_norm_out", x, { ...normOptions(config), activation: "silu" });
  return layers.conv("decoder.conv_out", x, { padding: 1 });
}

function normOptions(config: VaeConfig) {
  return { groups: config.normNumGroups, eps: config.normEps };
}

function resnet(layers: Layers, config: VaeConfig, path: string, input: Tensor): Tensor {
  const norm = { ...normOptions(config), activation: "silu" } as const;
  let x = layers.conv(`${path}.conv1`, layers.groupNorm(`${path}.norm1`, input, norm), { padding: 1 });
  x = layers.conv(`${path}.conv2`, layers.groupNorm(`${path}.norm2`, x, norm), { padding: 1 });
  const skip = layers.has(`${path}.conv_shortcut.weight`)
    ? layers.conv(`${path}.conv_shortcut`, input)
    : input;
  return add(layers.graph, skip, x);
}

function middle(layers: Layers, config: VaeConfig, path: string, input: Tensor): Tensor {
  const x = selfAttention(
    layers,
    config,
    `${path}.attentions.0`,
    resnet(layers, config, `${path}.resnets.0`, input),
  );
  return resnet(layers, config, `${path}.resnets.1`, x);
}

/** One head over all pixels. */
function selfAttention(layers: Layers, config: VaeConfig, path: string, input: Tensor): Tensor {
  const { graph } = layers;
  const shape = fixedShape(input.shape);
  const [batch, channels, height, width] = shape as [number, number, number, number];
  const pixels = height * width;
  const x = imageToTokens(graph, layers.groupNorm(`${path}.group_norm`, input, normOptions(config)));
  const attended = attention(
    graph,
    layers.linear(`${path}.to_q`, x),
    layers.linear(`${path}.to_k`, x),
    layers.linear(`${path}.to_v`, x),
    { batch, queries: pixels, keys: pixels, heads: 1, headDim: channels },
  );
  return add(graph, input, tokensToImage(graph, layers.linear(`${path}.to_out.0`, attended), shape));
}
