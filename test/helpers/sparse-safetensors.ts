/** Checkpoints for tests: real headers of any size in front of data that takes no space on the disk. */
import { mkdir, open, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { ClipTextConfig, UnetConfig, VaeConfig } from "../../src/models/config.js";

const SIZE_BYTES = { F64: 8, F32: 4, F16: 2, BF16: 2, I64: 8, F8_E4M3: 1 } as const;

export type SparseDtype = keyof typeof SIZE_BYTES;

export interface SparseTensor {
  readonly shape: readonly number[];
  /** Default F16. */
  readonly dtype?: SparseDtype;
}

/** Names to shapes as tensors of one dtype. */
export function sparseTensors(
  shapes: Iterable<readonly [string, readonly number[]]>,
  dtype: SparseDtype = "F16",
): Map<string, SparseTensor> {
  return new Map([...shapes].map(([name, shape]) => [name, { shape, dtype }]));
}

/**
 * Writes a valid safetensors file whose tensors are all zero. The file system stores the zeros as a hole, so a
 * checkpoint of gigabytes costs the size of its header.
 */
export async function writeSparseSafetensors(
  path: string,
  tensors: ReadonlyMap<string, SparseTensor>,
  metadata?: Readonly<Record<string, string>>,
): Promise<string> {
  const header: Record<string, unknown> = metadata === undefined ? {} : { __metadata__: metadata };
  let offset = 0;
  for (const [name, { shape, dtype = "F16" }] of tensors) {
    const size = shape.reduce((product, length) => product * length, SIZE_BYTES[dtype]);
    header[name] = { dtype, shape, data_offsets: [offset, offset + size] };
    offset += size;
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  await mkdir(dirname(path), { recursive: true });
  const file = await open(path, "w");
  try {
    await file.write(Buffer.concat([length, json]));
    await file.truncate(8 + json.length + offset);
  } finally {
    await file.close();
  }
  return path;
}

/** unet/config.json as diffusers writes it. */
export function diffusersUnetConfig(config: UnetConfig): Record<string, unknown> {
  const levels = config.blockOutChannels.length;
  const depths = config.downTransformerDepth.map((depth, level) =>
    Math.max(depth, config.upTransformerDepth[level]!, level === levels - 1 ? config.midTransformerDepth : 1),
  );
  return {
    _class_name: "UNet2DConditionModel",
    in_channels: config.inChannels,
    out_channels: config.outChannels,
    block_out_channels: config.blockOutChannels,
    layers_per_block: config.layersPerBlock,
    transformer_layers_per_block: depths,
    down_block_types: config.downTransformerDepth.map((depth) =>
      depth > 0 ? "CrossAttnDownBlock2D" : "DownBlock2D",
    ),
    up_block_types: config.upTransformerDepth
      .map((depth) => (depth > 0 ? "CrossAttnUpBlock2D" : "UpBlock2D"))
      .reverse(),
    mid_block_type: "UNetMidBlock2DCrossAttn",
    cross_attention_dim: config.crossAttentionDim,
    attention_head_dim: config.headsPerLevel,
    norm_num_groups: config.normNumGroups,
    norm_eps: config.normEps,
    use_linear_projection: config.useLinearProjection,
    flip_sin_to_cos: config.flipSinToCos,
    freq_shift: config.freqShift,
    act_fn: "silu",
    time_embedding_dim: config.timeEmbedDim,
  };
}

/** text_encoder/config.json as transformers writes it. */
export function diffusersClipConfig(config: ClipTextConfig): Record<string, unknown> {
  return {
    architectures: ["CLIPTextModel"],
    model_type: "clip_text_model",
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
    num_hidden_layers: config.layers,
    num_attention_heads: config.heads,
    hidden_act: config.activation,
    max_position_embeddings: config.maxPositions,
    vocab_size: config.vocabSize,
    layer_norm_eps: config.layerNormEps,
  };
}

/** vae/config.json as diffusers writes it. */
export function diffusersVaeConfig(config: VaeConfig): Record<string, unknown> {
  const levels = config.blockOutChannels.length;
  return {
    _class_name: "AutoencoderKL",
    in_channels: config.inChannels,
    out_channels: config.inChannels,
    latent_channels: config.latentChannels,
    block_out_channels: config.blockOutChannels,
    layers_per_block: config.layersPerBlock,
    norm_num_groups: config.normNumGroups,
    scaling_factor: config.scalingFactor,
    act_fn: "silu",
    down_block_types: new Array(levels).fill("DownEncoderBlock2D"),
    up_block_types: new Array(levels).fill("UpDecoderBlock2D"),
  };
}

/** Writes JSON into a folder that is made where needed. */
export async function writeJson(folder: string, name: string, value: unknown): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, name), JSON.stringify(value));
}
