/** Model sizes from the config.json files of a diffusers folder. */
import type { ClipTextConfig, PredictionType, UnetConfig, VaeConfig } from "../config.js";
import { unsupported } from "./architectures.js";
import type { ConfigFile } from "./config-file.js";

/** Fields that must not ask for anything beyond Stable Diffusion 1.x and 2.x, with the values that do not. */
const NEUTRAL_UNET_FIELDS: Readonly<Record<string, readonly unknown[]>> = {
  act_fn: ["silu", "swish"],
  addition_time_embed_dim: [],
  attention_type: ["default"],
  center_input_sample: [false],
  class_embed_type: [],
  class_embeddings_concat: [false],
  conv_in_kernel: [3],
  conv_out_kernel: [3],
  cross_attention_norm: [],
  downsample_padding: [1],
  dual_cross_attention: [false],
  encoder_hid_dim: [],
  encoder_hid_dim_type: [],
  mid_block_only_cross_attention: [false],
  mid_block_scale_factor: [1],
  num_attention_heads: [],
  num_class_embeds: [],
  only_cross_attention: [false],
  resnet_out_scale_factor: [1],
  resnet_skip_time_act: [false],
  resnet_time_scale_shift: ["default"],
  time_embedding_act_fn: [],
  time_embedding_type: ["positional"],
  timestep_post_act: [],
};

/** Block types and whether they have attention. */
const DOWN_BLOCK_ATTENTION: ReadonlyMap<string, boolean> = new Map([
  ["CrossAttnDownBlock2D", true],
  ["DownBlock2D", false],
]);
const UP_BLOCK_ATTENTION: ReadonlyMap<string, boolean> = new Map([
  ["CrossAttnUpBlock2D", true],
  ["UpBlock2D", false],
]);

/** unet/config.json. `attention_head_dim` has always meant the number of heads there. */
export function unetConfigFromDiffusers(file: ConfigFile): UnetConfig {
  const className = file.string("_class_name", "UNet2DConditionModel");
  if (className !== "UNet2DConditionModel") throw unsupported(file.root, `a model with a ${className}`);
  if (file.fields.addition_embed_type === "text_time") throw unsupported(file.root, "an SDXL model");
  if ((file.fields.time_cond_proj_dim ?? null) !== null) {
    throw unsupported(file.root, "a latent consistency model (LCM) with guidance embedding");
  }
  for (const [field, neutral] of Object.entries(NEUTRAL_UNET_FIELDS)) file.requireNeutral(field, neutral);
  file.requireNeutral("addition_embed_type", []);
  // Absent means the usual middle block, null (BK-SDM) that there is none.
  if (file.fields.mid_block_type !== undefined) file.oneOf("mid_block_type", ["UNetMidBlock2DCrossAttn"]);

  const blockOutChannels = file.integers("block_out_channels");
  const levels = blockOutChannels.length;
  const transformerLayers = file.integerOrList("transformer_layers_per_block", levels, 1);
  const upLayers = upTransformerLayers(file, transformerLayers);
  const downAttention = blockAttention(file, "down_block_types", DOWN_BLOCK_ATTENTION, levels);
  const upAttention = blockAttention(file, "up_block_types", UP_BLOCK_ATTENTION, levels).reverse();
  return {
    inChannels: file.integer("in_channels", 4),
    outChannels: file.integer("out_channels", 4),
    blockOutChannels,
    layersPerBlock: file.integerOrList("layers_per_block", levels, 2),
    downTransformerDepth: downAttention.map((attention, level) =>
      attention ? transformerLayers[level]! : 0,
    ),
    midTransformerDepth: transformerLayers.at(-1)!,
    upTransformerDepth: upAttention.map((attention, level) => (attention ? upLayers[level]! : 0)),
    crossAttentionDim: file.integer("cross_attention_dim", 1280),
    headsPerLevel: file.integerOrList("attention_head_dim", levels, 8),
    normNumGroups: file.integer("norm_num_groups", 32),
    normEps: file.number("norm_eps", 1e-5),
    useLinearProjection: file.boolean("use_linear_projection", false),
    timeEmbedDim: file.integer("time_embedding_dim", 4 * blockOutChannels[0]!),
    flipSinToCos: file.boolean("flip_sin_to_cos", true),
    freqShift: file.number("freq_shift", 0, 0),
  };
}

/** Transformer depths of the way up by level; diffusers lists them by up block where they differ. */
function upTransformerLayers(file: ConfigFile, downLayers: readonly number[]): readonly number[] {
  const field = "reverse_transformer_layers_per_block";
  if ((file.fields[field] ?? null) === null) return downLayers;
  return file.integerOrList(field, downLayers.length).reverse();
}

function blockAttention(
  file: ConfigFile,
  field: string,
  known: ReadonlyMap<string, boolean>,
  levels: number,
): boolean[] {
  const types = file.strings(field);
  const attention = types.map((type) => known.get(type)).filter((value) => value !== undefined);
  if (attention.length !== levels || types.length !== levels) {
    throw file.wrong(field, `${levels} of ${[...known.keys()].join(" and ")}, one for each level`);
  }
  return attention;
}

/** text_encoder/config.json. */
export function clipConfigFromDiffusers(file: ConfigFile): ClipTextConfig {
  const modelType = file.string("model_type", "clip_text_model");
  if (modelType !== "clip_text_model") {
    throw unsupported(file.root, `a model with a text encoder of type ${modelType}`);
  }
  return {
    hiddenSize: file.integer("hidden_size"),
    intermediateSize: file.integer("intermediate_size"),
    layers: file.integer("num_hidden_layers"),
    heads: file.integer("num_attention_heads"),
    activation: file.oneOf("hidden_act", ["quick_gelu", "gelu"], "quick_gelu"),
    maxPositions: file.integer("max_position_embeddings", 77),
    vocabSize: file.integer("vocab_size", 49408),
    layerNormEps: file.number("layer_norm_eps", 1e-5),
  };
}

const NEUTRAL_VAE_FIELDS: Readonly<Record<string, readonly unknown[]>> = {
  act_fn: ["silu", "swish"],
  down_block_types: ["DownEncoderBlock2D"],
  latents_mean: [],
  latents_std: [],
  mid_block_add_attention: [true],
  shift_factor: [],
  up_block_types: ["UpDecoderBlock2D"],
  use_post_quant_conv: [true],
  use_quant_conv: [true],
};

/** vae/config.json. */
export function vaeConfigFromDiffusers(file: ConfigFile): VaeConfig {
  const className = file.string("_class_name", "AutoencoderKL");
  if (className !== "AutoencoderKL") throw unsupported(file.root, `a model with a VAE of type ${className}`);
  for (const [field, neutral] of Object.entries(NEUTRAL_VAE_FIELDS)) file.requireNeutral(field, neutral);
  const inChannels = file.integer("in_channels", 3);
  file.requireNeutral("out_channels", [inChannels]);
  return {
    inChannels,
    latentChannels: file.integer("latent_channels", 4),
    blockOutChannels: file.integers("block_out_channels"),
    layersPerBlock: file.integer("layers_per_block", 1),
    normNumGroups: file.integer("norm_num_groups", 32),
    // AutoencoderKL has no option for it.
    normEps: 1e-6,
    scalingFactor: file.number("scaling_factor", 0.18215),
  };
}

/** scheduler/scheduler_config.json. */
export function predictionTypeFromDiffusers(file: ConfigFile): PredictionType {
  return file.oneOf("prediction_type", ["epsilon", "v_prediction"], "epsilon");
}
