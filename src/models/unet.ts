/**
 * The U-Net of Stable Diffusion 1.x and 2.x (Rombach et al. 2022, arXiv:2112.10752) as a graph, under diffusers' names.
 */

import { checkpoint } from "../graph/gradient.js";
import type { Graph } from "../graph/graph.js";
import { gelu, silu } from "../graph/ops/activation.js";
import { attention } from "../graph/ops/attention.js";
import { add, mul } from "../graph/ops/elementwise.js";
import { concat, reshape, split, upsampleNearest2x } from "../graph/ops/shape.js";
import { fixedShape, type Tensor } from "../graph/tensor.js";
import type { UnetConfig } from "./config.js";
import { imageToTokens, type Layers, tokensToImage } from "./layers.js";

/** Epsilon of the normalization in front of a spatial transformer (not the config's, in every implementation). */
const TRANSFORMER_NORM_EPS = 1e-6;

export interface UnetInputs {
  /** Noisy latents, `[N, C, H, W]`. */
  sample: Tensor;
  /** Sinusoidal embedding of the timesteps, `[N, blockOutChannels[0]]`: see {@link timestepEmbedding}. */
  timestepEmbedding: Tensor;
  /** Text encoder output, `[N * T, crossAttentionDim]`, and `T`, its number of tokens per sample. */
  context: Tensor;
  contextTokens: number;
}

export interface UnetOptions {
  /** Compute the inside of every resnet and transformer again in the backward pass instead of keeping it. */
  gradientCheckpointing?: boolean;
}

/**
 * Predicted noise or velocity.
 *
 * @returns `[N, outChannels, H, W]`
 */
export function buildUnet(
  layers: Layers,
  config: UnetConfig,
  inputs: UnetInputs,
  options: UnetOptions = {},
): Tensor {
  return new UnetBuilder(layers, config, inputs, options).build();
}

class UnetBuilder {
  readonly #layers: Layers;
  readonly #graph: Graph;
  readonly #config: UnetConfig;
  readonly #inputs: UnetInputs;
  readonly #block: (build: () => Tensor) => Tensor;

  constructor(layers: Layers, config: UnetConfig, inputs: UnetInputs, options: UnetOptions) {
    this.#layers = layers;
    this.#graph = layers.graph;
    this.#config = config;
    this.#inputs = inputs;
    this.#block = options.gradientCheckpointing
      ? (build) => checkpoint(layers.graph, () => [build()])[0]!
      : (build) => build();
  }

  build(): Tensor {
    const graph = this.#graph;
    const layers = this.#layers;
    const { blockOutChannels, layersPerBlock, downTransformerDepth, upTransformerDepth } = this.#config;
    const lastLevel = blockOutChannels.length - 1;

    const hidden = silu(graph, layers.linear("time_embedding.linear_1", this.#inputs.timestepEmbedding));
    // Every resnet starts with SiLU of the embedding: once for all.
    const embedding = silu(graph, layers.linear("time_embedding.linear_2", hidden));

    let x = layers.conv("conv_in", this.#inputs.sample, { padding: 1 });
    const skips = [x];
    for (let level = 0; level <= lastLevel; level++) {
      const block = `down_blocks.${level}`;
      for (let layer = 0; layer < layersPerBlock[level]!; layer++) {
        x = this.#resnet(`${block}.resnets.${layer}`, x, embedding);
        x = this.#transformer(`${block}.attentions.${layer}`, x, downTransformerDepth[level]!, level);
        skips.push(x);
      }
      if (level < lastLevel) {
        x = layers.conv(`${block}.downsamplers.0.conv`, x, { stride: 2, padding: 1 });
        skips.push(x);
      }
    }

    x = this.#resnet("mid_block.resnets.0", x, embedding);
    x = this.#transformer("mid_block.attentions.0", x, this.#config.midTransformerDepth, lastLevel);
    x = this.#resnet("mid_block.resnets.1", x, embedding);

    for (let level = lastLevel; level >= 0; level--) {
      const block = `up_blocks.${lastLevel - level}`;
      for (let layer = 0; layer <= layersPerBlock[level]!; layer++) {
        x = this.#resnet(`${block}.resnets.${layer}`, concat(graph, [x, skips.pop()!], 1), embedding);
        x = this.#transformer(`${block}.attentions.${layer}`, x, upTransformerDepth[level]!, level);
      }
      if (level > 0)
        x = layers.conv(`${block}.upsamplers.0.conv`, upsampleNearest2x(graph, x), { padding: 1 });
    }

    const { normNumGroups: groups, normEps: eps } = this.#config;
    x = layers.groupNorm("conv_norm_out", x, { groups, eps, activation: "silu" });
    return layers.conv("conv_out", x, { padding: 1 });
  }

  #resnet(path: string, input: Tensor, embedding: Tensor): Tensor {
    const graph = this.#graph;
    const layers = this.#layers;
    const norm = {
      groups: this.#config.normNumGroups,
      eps: this.#config.normEps,
      activation: "silu",
    } as const;
    return this.#block(() => {
      let x = layers.groupNorm(`${path}.norm1`, input, norm);
      x = layers.conv(`${path}.conv1`, x, { padding: 1 });
      const shift = layers.linear(`${path}.time_emb_proj`, embedding);
      x = add(graph, x, reshape(graph, shift, [...shift.shape, 1, 1]));
      x = layers.groupNorm(`${path}.norm2`, x, norm);
      x = layers.conv(`${path}.conv2`, x, { padding: 1 });
      const skip = layers.has(`${path}.conv_shortcut.weight`)
        ? layers.conv(`${path}.conv_shortcut`, input)
        : input;
      return add(graph, skip, x);
    });
  }

  #transformer(path: string, input: Tensor, depth: number, level: number): Tensor {
    if (depth === 0) return input;
    const graph = this.#graph;
    const layers = this.#layers;
    const shape = fixedShape(input.shape);
    return this.#block(() => {
      const normalized = layers.groupNorm(`${path}.norm`, input, {
        groups: this.#config.normNumGroups,
        eps: TRANSFORMER_NORM_EPS,
      });
      let x = layers.linear(`${path}.proj_in`, imageToTokens(graph, normalized));
      for (let index = 0; index < depth; index++) {
        x = this.#transformerBlock(`${path}.transformer_blocks.${index}`, x, shape, level);
      }
      x = layers.linear(`${path}.proj_out`, x);
      return add(graph, input, tokensToImage(graph, x, shape));
    });
  }

  #transformerBlock(path: string, input: Tensor, imageShape: readonly number[], level: number): Tensor {
    const graph = this.#graph;
    const layers = this.#layers;
    const [batch, channels, height, width] = imageShape as [number, number, number, number];
    const heads = this.#config.headsPerLevel[level]!;
    const sizes = { batch, queries: height * width, heads, headDim: channels / heads };
    const attend = (name: string, x: Tensor, context: Tensor, keys: number) => {
      const q = layers.linear(`${name}.to_q`, x);
      const k = layers.linear(`${name}.to_k`, context);
      const v = layers.linear(`${name}.to_v`, context);
      return layers.linear(`${name}.to_out.0`, attention(graph, q, k, v, { ...sizes, keys }));
    };

    const normalized = layers.layerNorm(`${path}.norm1`, input);
    let x = add(graph, input, attend(`${path}.attn1`, normalized, normalized, sizes.queries));
    const { context, contextTokens } = this.#inputs;
    x = add(graph, x, attend(`${path}.attn2`, layers.layerNorm(`${path}.norm2`, x), context, contextTokens));
    return add(graph, x, this.#feedForward(`${path}.ff`, layers.layerNorm(`${path}.norm3`, x)));
  }

  /** GEGLU (Shazeer 2020, arXiv:2002.05202): half of the channels gate the other half. */
  #feedForward(path: string, x: Tensor): Tensor {
    const graph = this.#graph;
    const both = this.#layers.linear(`${path}.net.0.proj`, x);
    const inner = fixedShape(both.shape)[1]! / 2;
    const [value, gate] = split(graph, both, 1, [inner, inner]);
    return this.#layers.linear(`${path}.net.2`, mul(graph, value!, gelu(graph, gate!)));
  }
}

/**
 * Sinusoidal embedding of timesteps (Ho et al. 2020, arXiv:2006.11239), computed in double precision: a float32 cosine of
 * arguments up to 1000 would be the least exact number of the whole model on some devices.
 *
 * @param timesteps - one per sample
 * @returns `[N, blockOutChannels[0]]` row by row
 */
export function timestepEmbedding(
  timesteps: readonly number[],
  config: Pick<UnetConfig, "blockOutChannels" | "flipSinToCos" | "freqShift">,
): Float32Array {
  const width = config.blockOutChannels[0]!;
  const half = Math.floor(width / 2);
  const [sineAt, cosineAt] = config.flipSinToCos ? [half, 0] : [0, half];
  const rows = new Float32Array(timesteps.length * width);
  for (const [row, timestep] of timesteps.entries()) {
    for (let index = 0; index < half; index++) {
      const angle = timestep * Math.exp((-Math.log(10_000) * index) / (half - config.freqShift));
      rows[row * width + sineAt + index] = Math.sin(angle);
      rows[row * width + cosineAt + index] = Math.cos(angle);
    }
  }
  return rows;
}
