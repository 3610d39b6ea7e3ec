/**
 * The modules of Stable Diffusion's autoencoder (`AutoencoderKL`): canonical names of diffusers, with `to_q`, `to_k`,
 * `to_v`, `to_out.0` in the attention; original names of the LDM code, whose decoder numbers its levels from the image
 * side (`decoder.up.0` is the last block to run) while diffusers numbers them as they run.
 */
import type { VaeConfig } from "../config.js";
import { child, conv, linear, type ModuleName, type ModuleSpec, norm } from "./module-spec.js";

/** Every module with weights: encoder, decoder, `quant_conv`, `post_quant_conv`. */
export function vaeModules(config: VaeConfig): ModuleSpec[] {
  // The encoder predicts mean and log-variance of the latent.
  const momentChannels = 2 * config.latentChannels;
  return [
    ...encoderModules(config, momentChannels),
    ...decoderModules(config),
    conv(same("quant_conv"), momentChannels, momentChannels, 1),
    conv(same("post_quant_conv"), config.latentChannels, config.latentChannels, 1),
  ];
}

function encoderModules(config: VaeConfig, momentChannels: number): ModuleSpec[] {
  const name = same("encoder");
  const widths = config.blockOutChannels;
  const modules = [conv(child(name, "conv_in"), config.inChannels, widths[0]!, 3)];
  let channels = widths[0]!;
  widths.forEach((width, level) => {
    const block = child(name, `down_blocks.${level}`, `down.${level}`);
    for (let layer = 0; layer < config.layersPerBlock; layer++) {
      modules.push(...resnet(child(block, `resnets.${layer}`, `block.${layer}`), channels, width));
      channels = width;
    }
    if (level < widths.length - 1) {
      modules.push(
        conv(child(block, "downsamplers.0.conv", "downsample.conv"), width, width, 3, { stride: 2 }),
      );
    }
  });
  modules.push(...midBlock(name, channels));
  modules.push(norm(child(name, "conv_norm_out", "norm_out"), channels));
  modules.push(conv(child(name, "conv_out"), channels, momentChannels, 3));
  return modules;
}

function decoderModules(config: VaeConfig): ModuleSpec[] {
  const name = same("decoder");
  const widths = config.blockOutChannels;
  let channels = widths.at(-1)!;
  const modules = [
    conv(child(name, "conv_in"), config.latentChannels, channels, 3),
    ...midBlock(name, channels),
  ];
  for (let level = widths.length - 1; level >= 0; level--) {
    const width = widths[level]!;
    const block = child(name, `up_blocks.${widths.length - 1 - level}`, `up.${level}`);
    for (let layer = 0; layer <= config.layersPerBlock; layer++) {
      modules.push(...resnet(child(block, `resnets.${layer}`, `block.${layer}`), channels, width));
      channels = width;
    }
    if (level > 0) modules.push(conv(child(block, "upsamplers.0.conv", "upsample.conv"), width, width, 3));
  }
  modules.push(norm(child(name, "conv_norm_out", "norm_out"), channels));
  modules.push(conv(child(name, "conv_out"), channels, config.inChannels, 3));
  return modules;
}

function midBlock(parent: ModuleName, width: number): ModuleSpec[] {
  const name = child(parent, "mid_block", "mid");
  const attention = child(name, "attentions.0", "attn_1");
  return [
    norm(child(attention, "group_norm", "norm"), width),
    linear(child(attention, "to_q", "q"), width, width),
    linear(child(attention, "to_k", "k"), width, width),
    linear(child(attention, "to_v", "v"), width, width),
    linear(child(attention, "to_out.0", "proj_out"), width, width),
    ...resnet(child(name, "resnets.0", "block_1"), width, width),
    ...resnet(child(name, "resnets.1", "block_2"), width, width),
  ];
}

function resnet(name: ModuleName, inChannels: number, outChannels: number): ModuleSpec[] {
  const modules = [
    norm(child(name, "norm1"), inChannels),
    conv(child(name, "conv1"), inChannels, outChannels, 3),
    norm(child(name, "norm2"), outChannels),
    conv(child(name, "conv2"), outChannels, outChannels, 3),
  ];
  if (inChannels !== outChannels) {
    modules.push(conv(child(name, "conv_shortcut", "nin_shortcut"), inChannels, outChannels, 1));
  }
  return modules;
}

function same(path: string): ModuleName {
  return { path, originalPath: path };
}
