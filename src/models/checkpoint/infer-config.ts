/**
 * Model sizes from tensor shapes, for files that carry no config.
 *
 * Only what shapes tell is read here; that the sizes make a working model is checked by validate-config.ts, and that
 * every tensor has the shape they imply by collect-weights.ts.
 */
import type { ClipTextConfig, ModelVersion, UnetConfig, VaeConfig } from "../config.js";
import { formatShape, incompatible } from "./problem.js";

/** Shape of a tensor by its name without the part's prefix; undefined if the file has no such tensor. */
export type ShapeOf = (name: string) => readonly number[] | undefined;

/** Channels per attention head in SD 2.x, and in both versions' text encoders. */
const HEAD_CHANNELS = 64;
/** Heads on every level of an SD 1.x U-Net, whatever the width. */
const SD1_HEADS = 8;
/** Groups of every GroupNorm; the LDM code fixes it, no shape tells. */
const NORM_GROUPS = 32;

const OTHER_MODEL =
  "The file is damaged or not a Stable Diffusion 1.x or 2.x model. Give an unmodified checkpoint.";

interface Level {
  readonly width: number;
  readonly depth: number;
  layers: number;
}

/**
 * Sizes of a U-Net with original names: walks `input_blocks` (a block with `op` ends a level), `middle_block` and
 * `output_blocks`.
 */
export function inferUnetConfig(path: string, shapeOf: ShapeOf, version: ModelVersion): UnetConfig {
  const need = required(path, "U-Net", shapeOf);
  const convIn = need("input_blocks.0.0.weight", 4);
  const timeEmbedDim = need("time_embed.0.weight", 2)[0]!;
  const outChannels = need("out.2.weight", 4)[0]!;
  need("input_blocks.1.0.in_layers.2.weight", 4);
  const levels = walkInputBlocks(path, shapeOf);
  const upTransformerDepth = walkOutputBlocks(shapeOf, levels);
  const firstTransformer = findFirstTransformer(shapeOf, levels);
  if (firstTransformer === null) {
    throw incompatible(path, "the U-Net has no attention, so text cannot condition it", OTHER_MODEL);
  }
  const blockOutChannels = levels.map(({ width }) => width);
  return {
    inChannels: convIn[1]!,
    outChannels,
    blockOutChannels,
    layersPerBlock: levels.map(({ layers }) => layers),
    downTransformerDepth: levels.map(({ depth }) => depth),
    midTransformerDepth: transformerDepth(shapeOf, "middle_block.1"),
    upTransformerDepth,
    crossAttentionDim: need(`${firstTransformer}.transformer_blocks.0.attn2.to_k.weight`, 2)[1]!,
    headsPerLevel: blockOutChannels.map((width) => (version === "sd1" ? SD1_HEADS : width / HEAD_CHANNELS)),
    normNumGroups: NORM_GROUPS,
    normEps: 1e-5,
    useLinearProjection: shapeOf(`${firstTransformer}.proj_in.weight`)?.length === 2,
    timeEmbedDim,
    flipSinToCos: true,
    freqShift: 0,
  };
}

function walkInputBlocks(path: string, shapeOf: ShapeOf): Level[] {
  const levels: Level[] = [];
  let current: Level | null = null;
  for (let block = 1; ; block++) {
    const name = `input_blocks.${block}`;
    const firstConv = shapeOf(`${name}.0.in_layers.2.weight`);
    if (firstConv !== undefined) {
      const width = firstConv[0] ?? 0;
      const depth = transformerDepth(shapeOf, `${name}.1`);
      if (current === null) {
        current = { width, depth, layers: 1 };
        levels.push(current);
      } else if (current.width === width && current.depth === depth) {
        current.layers++;
      } else {
        throw incompatible(
          path,
          `U-Net block ${name} has width ${width} and ${depth} transformer blocks; ` +
            `expected ${current.width} and ${current.depth} as in the other blocks of its level`,
          OTHER_MODEL,
        );
      }
    } else if (shapeOf(`${name}.0.op.weight`) !== undefined) {
      current = null;
    } else {
      return levels;
    }
  }
}

/** Transformer depth of each level on the way up; level by level from the lowest resolution. */
function walkOutputBlocks(shapeOf: ShapeOf, levels: readonly Level[]): number[] {
  const depths = new Array<number>(levels.length).fill(0);
  let block = 0;
  for (let level = levels.length - 1; level >= 0; level--) {
    depths[level] = transformerDepth(shapeOf, `output_blocks.${block}.1`);
    block += levels[level]!.layers + 1;
  }
  return depths;
}

function transformerDepth(shapeOf: ShapeOf, transformer: string): number {
  let depth = 0;
  while (shapeOf(`${transformer}.transformer_blocks.${depth}.attn1.to_q.weight`) !== undefined) depth++;
  return depth;
}

function findFirstTransformer(shapeOf: ShapeOf, levels: readonly Level[]): string | null {
  const blocks = levels.reduce((count, { layers }) => count + layers + 1, 1);
  const names = Array.from({ length: blocks }, (_, block) => `input_blocks.${block}.1`);
  return [...names, "middle_block.1"].find((name) => transformerDepth(shapeOf, name) > 0) ?? null;
}

/** Sizes of a CLIP text encoder under transformers' names (`text_model.…`), as SD 1.x files have it. */
export function inferClipConfig(path: string, shapeOf: ShapeOf): ClipTextConfig {
  const need = required(path, "text encoder", shapeOf);
  return {
    ...clipSizes(
      need("text_model.embeddings.token_embedding.weight", 2),
      need("text_model.embeddings.position_embedding.weight", 2),
    ),
    intermediateSize: need("text_model.encoder.layers.0.mlp.fc1.weight", 2)[0]!,
    layers: countWhile((layer) => shapeOf(`text_model.encoder.layers.${layer}.layer_norm1.weight`)),
    activation: "quick_gelu",
  };
}

/**
 * Sizes of an OpenCLIP text encoder, as SD 2.x files have it. SD 2.x stops one layer before the end of the tower, which a
 * complete file still contains.
 */
export function inferOpenClipConfig(path: string, shapeOf: ShapeOf): ClipTextConfig {
  const need = required(path, "text encoder", shapeOf);
  const sizes = clipSizes(need("token_embedding.weight", 2), need("positional_embedding", 2));
  const blocks = countWhile((block) => shapeOf(`transformer.resblocks.${block}.ln_1.weight`));
  return {
    ...sizes,
    intermediateSize: need("transformer.resblocks.0.mlp.c_fc.weight", 2)[0]!,
    layers: usedOpenClipBlocks(blocks, sizes.hiddenSize, shapeOf("text_projection") !== undefined),
    activation: "gelu",
  };
}

/** Width and used layers of OpenCLIP ViT-H/14, the text encoder of SD 2.x. */
const VIT_H_WIDTH = 1024;
const VIT_H_USED_LAYERS = 23;

function usedOpenClipBlocks(blocks: number, width: number, isComplete: boolean): number {
  // Files written from a diffusers model lack the unused block and the text projection behind it.
  if (width === VIT_H_WIDTH) return VIT_H_USED_LAYERS;
  return isComplete ? blocks - 1 : blocks;
}

function clipSizes(tokens: readonly number[], positions: readonly number[]) {
  const hiddenSize = tokens[1]!;
  return {
    hiddenSize,
    heads: hiddenSize / HEAD_CHANNELS,
    maxPositions: positions[0]!,
    vocabSize: tokens[0]!,
    layerNormEps: 1e-5,
  };
}

/** How a dialect names the first convolution of a resnet in the VAE's encoder. */
const VAE_ENCODER_CONV = {
  original: (level: number, layer: number) => `encoder.down.${level}.block.${layer}.conv1.weight`,
  diffusers: (level: number, layer: number) => `encoder.down_blocks.${level}.resnets.${layer}.conv1.weight`,
} as const;

export type VaeDialect = keyof typeof VAE_ENCODER_CONV;

/** Sizes of a VAE, with Stable Diffusion's scaling factor. */
export function inferVaeConfig(path: string, shapeOf: ShapeOf, dialect: VaeDialect): VaeConfig {
  const need = required(path, "VAE", shapeOf);
  const firstConv = VAE_ENCODER_CONV[dialect];
  const levels = countWhile((level) => shapeOf(firstConv(level, 0)));
  return {
    inChannels: need("encoder.conv_in.weight", 4)[1]!,
    latentChannels: need("post_quant_conv.weight", 4)[0]!,
    blockOutChannels: Array.from({ length: levels }, (_, level) => need(firstConv(level, 0), 4)[0]!),
    layersPerBlock: countWhile((layer) => shapeOf(firstConv(0, layer))),
    normNumGroups: NORM_GROUPS,
    normEps: 1e-6,
    scalingFactor: 0.18215,
  };
}

/** The number of indices 0, 1, 2, … for which something is there. */
function countWhile(at: (index: number) => unknown): number {
  let count = 0;
  while (at(count) !== undefined) count++;
  return count;
}

/** Shape of a tensor that must be there with that many dimensions. */
function required(path: string, part: string, shapeOf: ShapeOf) {
  return (name: string, dimensions: number): readonly number[] => {
    const shape = shapeOf(name);
    if (shape === undefined) throw incompatible(path, `the ${part} lacks ${name}`, OTHER_MODEL);
    if (shape.length !== dimensions || shape.includes(0)) {
      throw incompatible(
        path,
        `${name} of the ${part} has shape ${formatShape(shape)}; expected ${dimensions} dimensions, none of them 0`,
        OTHER_MODEL,
      );
    }
    return shape;
  };
}
