/**
 * The modules of Stable Diffusion's U-Net.
 *
 * Canonical names are those of diffusers' `UNet2DConditionModel`; original names those of the LDM code that SD 1.x and
 * 2.x checkpoints were published with, where `input_blocks` and `output_blocks` number resnets and resamplers in one
 * sequence. The order is the one in which sd-scripts (and diffusers) register modules: down, up, then the middle;
 * attentions before resnets; `ff` between the two attentions.
 */
import type { UnetConfig } from "../config.js";
import { child, conv, linear, type ModuleName, type ModuleSpec, norm } from "./module-spec.js";

/** Every module with weights, in registration order. */
export function unetModules(config: UnetConfig): ModuleSpec[] {
  const width = config.blockOutChannels[0]!;
  const { inChannels, outChannels, timeEmbedDim } = config;
  return [
    conv(named("conv_in", "input_blocks.0.0"), inChannels, width, 3),
    linear(named("time_embedding.linear_1", "time_embed.0"), width, timeEmbedDim),
    linear(named("time_embedding.linear_2", "time_embed.2"), timeEmbedDim, timeEmbedDim),
    ...downBlocks(config),
    ...upBlocks(config),
    ...midBlock(config),
    norm(named("conv_norm_out", "out.0"), width),
    conv(named("conv_out", "out.2"), width, outChannels, 3),
  ];
}

function downBlocks(config: UnetConfig): ModuleSpec[] {
  const modules: ModuleSpec[] = [];
  const lastLevel = config.blockOutChannels.length - 1;
  // input_blocks.0 is conv_in.
  let inputBlock = 1;
  let channels = config.blockOutChannels[0]!;
  config.blockOutChannels.forEach((width, level) => {
    const path = `down_blocks.${level}`;
    const attentions: ModuleSpec[] = [];
    const resnets: ModuleSpec[] = [];
    for (let layer = 0; layer < config.layersPerBlock[level]!; layer++, inputBlock++) {
      const resnetName = named(`${path}.resnets.${layer}`, `input_blocks.${inputBlock}.0`);
      resnets.push(...resnet(resnetName, channels, width, config.timeEmbedDim));
      const attentionName = named(`${path}.attentions.${layer}`, `input_blocks.${inputBlock}.1`);
      attentions.push(...transformer(attentionName, width, config.downTransformerDepth[level]!, config));
      channels = width;
    }
    modules.push(...attentions, ...resnets);
    if (level < lastLevel) {
      const name = named(`${path}.downsamplers.0.conv`, `input_blocks.${inputBlock}.0.op`);
      modules.push(conv(name, width, width, 3, { stride: 2, owner: "Downsample2D" }));
      inputBlock++;
    }
  });
  return modules;
}

function upBlocks(config: UnetConfig): ModuleSpec[] {
  const modules: ModuleSpec[] = [];
  const levels = config.blockOutChannels.length;
  let outputBlock = 0;
  let channels = config.blockOutChannels[levels - 1]!;
  for (let level = levels - 1; level >= 0; level--) {
    const path = `up_blocks.${levels - 1 - level}`;
    const width = config.blockOutChannels[level]!;
    const depth = config.upTransformerDepth[level]!;
    const lastLayer = config.layersPerBlock[level]!;
    const attentions: ModuleSpec[] = [];
    const resnets: ModuleSpec[] = [];
    for (let layer = 0; layer <= lastLayer; layer++, outputBlock++) {
      // The last resnet of a level takes the skip connection that entered the level's down block.
      const skip = layer === lastLayer ? config.blockOutChannels[Math.max(level - 1, 0)]! : width;
      const resnetName = named(`${path}.resnets.${layer}`, `output_blocks.${outputBlock}.0`);
      resnets.push(...resnet(resnetName, channels + skip, width, config.timeEmbedDim));
      const attentionName = named(`${path}.attentions.${layer}`, `output_blocks.${outputBlock}.1`);
      attentions.push(...transformer(attentionName, width, depth, config));
      channels = width;
    }
    modules.push(...attentions, ...resnets);
    if (level > 0) {
      // Behind the level's last resnet, and behind its attention where it has one.
      const original = `output_blocks.${outputBlock - 1}.${depth > 0 ? 2 : 1}.conv`;
      modules.push(
        conv(named(`${path}.upsamplers.0.conv`, original), width, width, 3, { owner: "Upsample2D" }),
      );
    }
  }
  return modules;
}

function midBlock(config: UnetConfig): ModuleSpec[] {
  const width = config.blockOutChannels.at(-1)!;
  const depth = config.midTransformerDepth;
  const secondResnet = `middle_block.${depth > 0 ? 2 : 1}`;
  return [
    ...transformer(named("mid_block.attentions.0", "middle_block.1"), width, depth, config),
    ...resnet(named("mid_block.resnets.0", "middle_block.0"), width, width, config.timeEmbedDim),
    ...resnet(named("mid_block.resnets.1", secondResnet), width, width, config.timeEmbedDim),
  ];
}

function resnet(
  name: ModuleName,
  inChannels: number,
  outChannels: number,
  timeEmbedDim: number,
): ModuleSpec[] {
  const options = { owner: "ResnetBlock2D" } as const;
  const modules = [
    norm(child(name, "norm1", "in_layers.0"), inChannels),
    conv(child(name, "conv1", "in_layers.2"), inChannels, outChannels, 3, options),
    linear(child(name, "time_emb_proj", "emb_layers.1"), timeEmbedDim, outChannels, options),
    norm(child(name, "norm2", "out_layers.0"), outChannels),
    conv(child(name, "conv2", "out_layers.3"), outChannels, outChannels, 3, options),
  ];
  if (inChannels !== outChannels) {
    modules.push(conv(child(name, "conv_shortcut", "skip_connection"), inChannels, outChannels, 1, options));
  }
  return modules;
}

/** A `Transformer2DModel` of `depth` blocks; nothing at depth 0. Original and canonical names are the same inside. */
function transformer(name: ModuleName, width: number, depth: number, config: UnetConfig): ModuleSpec[] {
  if (depth === 0) return [];
  const options = { owner: "Transformer2DModel" } as const;
  const projection = (projectionName: string) =>
    config.useLinearProjection
      ? linear(child(name, projectionName), width, width, options)
      : conv(child(name, projectionName), width, width, 1, options);
  const modules = [norm(child(name, "norm"), width), projection("proj_in")];
  for (let block = 0; block < depth; block++) {
    modules.push(
      ...transformerBlock(child(name, `transformer_blocks.${block}`), width, config.crossAttentionDim),
    );
  }
  modules.push(projection("proj_out"));
  return modules;
}

function transformerBlock(name: ModuleName, width: number, contextWidth: number): ModuleSpec[] {
  const options = { owner: "Transformer2DModel" } as const;
  // GEGLU: the first Linear makes value and gate of four times the width each.
  const inner = 4 * width;
  return [
    ...attention(child(name, "attn1"), width, width),
    linear(child(name, "ff.net.0.proj"), width, 2 * inner, options),
    linear(child(name, "ff.net.2"), inner, width, options),
    ...attention(child(name, "attn2"), width, contextWidth),
    norm(child(name, "norm1"), width),
    norm(child(name, "norm2"), width),
    norm(child(name, "norm3"), width),
  ];
}

function attention(name: ModuleName, width: number, contextWidth: number): ModuleSpec[] {
  const owner = "Transformer2DModel";
  return [
    linear(child(name, "to_q"), width, width, { owner, bias: false }),
    linear(child(name, "to_k"), contextWidth, width, { owner, bias: false }),
    linear(child(name, "to_v"), contextWidth, width, { owner, bias: false }),
    linear(child(name, "to_out.0"), width, width, { owner }),
  ];
}

function named(path: string, originalPath: string): ModuleName {
  return { path, originalPath };
}
