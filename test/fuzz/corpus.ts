/** Valid adapters to mutate: every dialect, every kind of module, and things that dylora only recognises. */
import { everyKindOfModule, type RandomModule } from "../helpers/random-adapter.js";
import type { FuzzFile, FuzzTensor } from "./fuzz-file.js";

const KOHYA_METADATA = {
  ss_network_module: "networks.dylora",
  ss_network_dim: "4",
  ss_network_alpha: "2.0",
  ss_network_args: '{"unit": "2", "alpha_rule": "paper", "update_mode": "full", "ranks": "2,4"}',
  ss_base_model_version: "sd_v1",
  "modelspec.prediction_type": "epsilon",
  sshs_model_hash: "0".repeat(64),
};

function kohyaModule({ name, kind, rank, inFeatures, outFeatures }: RandomModule): FuzzTensor[] {
  const kernel = kind === "linear" ? [] : kind === "conv1x1" ? [1, 1] : [3, 3];
  return [
    { name: `${name}.lora_down.weight`, dtype: "F16", shape: [rank, inFeatures, ...kernel] },
    {
      name: `${name}.lora_up.weight`,
      dtype: "F16",
      shape: [outFeatures, rank, ...(kind === "linear" ? [] : [1, 1])],
    },
    { name: `${name}.alpha`, dtype: "F16", shape: [] },
  ];
}

function small(modules: readonly RandomModule[]): RandomModule[] {
  return modules.map((module) => ({
    ...module,
    inFeatures: Math.min(module.inFeatures, 6),
    outFeatures: Math.min(module.outFeatures, 5),
  }));
}

function named(prefix: string, paths: readonly string[], down: string, up: string): FuzzTensor[] {
  return paths.flatMap((path) => [
    { name: `${prefix}${path}${down}`, dtype: "F32" as const, shape: [2, 3] },
    { name: `${prefix}${path}${up}`, dtype: "F32" as const, shape: [4, 2] },
  ]);
}

const ATTENTION = "down_blocks.1.attentions.0.transformer_blocks.0.attn1";

/** Some 5 kB each. */
export const CORPUS: readonly FuzzFile[] = [
  {
    title: "kohya, DyLoRA, every kind of module",
    metadata: KOHYA_METADATA,
    tensors: small(everyKindOfModule(4, 2)).flatMap(kohyaModule),
  },
  {
    title: "kohya, SDXL, without metadata and alphas",
    metadata: null,
    tensors: [
      "lora_unet_input_blocks_4_1_proj_in",
      "lora_te1_text_model_encoder_layers_0_mlp_fc1",
      "lora_te2_text_model_encoder_layers_31_mlp_fc2",
    ]
      .flatMap((name) => kohyaModule({ name, kind: "linear", rank: 2, inFeatures: 5, outFeatures: 3 }))
      .filter(({ name }) => !name.endsWith(".alpha")),
  },
  {
    title: "diffusers",
    metadata: {
      format: "pt",
      lora_adapter_metadata:
        '{"unet.r": 2, "unet.lora_alpha": 4, "unet.target_modules": ["to_q"], "text_encoder.r": 2}',
    },
    tensors: [
      ...named("unet.", [`${ATTENTION}.to_q`, `${ATTENTION}.to_out.0`], ".lora_A.weight", ".lora_B.weight"),
      ...named(
        "text_encoder.",
        ["text_model.encoder.layers.0.self_attn.q_proj"],
        ".lora_linear_layer.down.weight",
        ".lora_linear_layer.up.weight",
      ),
    ],
  },
  {
    title: "PEFT, one file",
    metadata: { format: "pt" },
    tensors: named(
      "base_model.model.",
      [`${ATTENTION}.to_q`, "mid_block.attentions.0.proj_in"],
      ".lora_A.weight",
      ".lora_B.weight",
    ),
  },
  {
    title: "the oldest diffusers names",
    metadata: null,
    tensors: named("", [`${ATTENTION}.processor.to_q`], "_lora.down.weight", "_lora.up.weight"),
  },
  {
    title: "LyCORIS: LoHa, DoRA, Tucker, a full difference, beside a plain module",
    metadata: { ss_network_module: "lycoris.kohya", ss_network_args: '{"algo": "loha", "preset": "full"}' },
    tensors: [
      ...kohyaModule({
        name: "lora_unet_mid_block_attentions_0_proj_in",
        kind: "conv1x1",
        rank: 2,
        inFeatures: 4,
        outFeatures: 4,
      }),
      ...["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"].map((part) => ({
        name: `lora_unet_mid_block_resnets_0_conv1.${part}`,
        dtype: "F16" as const,
        shape: [4, 2],
      })),
      { name: "lora_unet_mid_block_resnets_1_conv1.dora_scale", dtype: "F32", shape: [1, 4, 1, 1] },
      { name: "lora_unet_mid_block_resnets_1_conv1.lora_mid.weight", dtype: "F16", shape: [2, 2, 3, 3] },
      { name: "lora_unet_mid_block_resnets_1_conv2.diff", dtype: "BF16", shape: [2, 2, 3, 3] },
      { name: "bundle_emb.cat.string_to_param.*", dtype: "F16", shape: [1, 8] },
    ],
  },
  {
    title: "no adapter: a piece of a checkpoint",
    metadata: { format: "pt" },
    tensors: [
      { name: "model.diffusion_model.input_blocks.0.0.weight", dtype: "F16", shape: [4, 4, 3, 3] },
      {
        name: "cond_stage_model.transformer.text_model.embeddings.position_ids",
        dtype: "I64",
        shape: [1, 7],
      },
    ],
  },
];
