import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { kindOfModule, kohyaNameOf, moduleAt, moduleOfKohyaName, modulesOf } from "./module-names.js";

const MODELS = ["sd1", "sd2", "sdxl"] as const;

describe("names", () => {
  it.each<
    [model: "sd1" | "sdxl", component: "unet" | "text_encoder" | "text_encoder_2", path: string, name: string]
  >([
    [
      "sd1",
      "unet",
      "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
      "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
    ],
    [
      "sd1",
      "unet",
      "up_blocks.3.attentions.2.transformer_blocks.0.attn2.to_out.0",
      "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_attn2_to_out_0",
    ],
    [
      "sd1",
      "unet",
      "mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj",
      "lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_0_proj",
    ],
    [
      "sd1",
      "unet",
      "down_blocks.1.attentions.1.transformer_blocks.0.ff.net.2",
      "lora_unet_down_blocks_1_attentions_1_transformer_blocks_0_ff_net_2",
    ],
    ["sd1", "unet", "up_blocks.0.resnets.2.conv_shortcut", "lora_unet_up_blocks_0_resnets_2_conv_shortcut"],
    [
      "sd1",
      "unet",
      "down_blocks.3.resnets.1.time_emb_proj",
      "lora_unet_down_blocks_3_resnets_1_time_emb_proj",
    ],
    ["sd1", "unet", "down_blocks.2.downsamplers.0.conv", "lora_unet_down_blocks_2_downsamplers_0_conv"],
    ["sd1", "unet", "up_blocks.1.upsamplers.0.conv", "lora_unet_up_blocks_1_upsamplers_0_conv"],
    [
      "sd1",
      "text_encoder",
      "text_model.encoder.layers.11.self_attn.out_proj",
      "lora_te_text_model_encoder_layers_11_self_attn_out_proj",
    ],
    [
      "sdxl",
      "unet",
      "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
      "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q",
    ],
    [
      "sdxl",
      "unet",
      "down_blocks.2.attentions.1.transformer_blocks.9.ff.net.2",
      "lora_unet_input_blocks_8_1_transformer_blocks_9_ff_net_2",
    ],
    ["sdxl", "unet", "mid_block.attentions.0.proj_in", "lora_unet_middle_block_1_proj_in"],
    [
      "sdxl",
      "unet",
      "up_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k",
      "lora_unet_output_blocks_0_1_transformer_blocks_0_attn2_to_k",
    ],
    ["sdxl", "unet", "up_blocks.0.upsamplers.0.conv", "lora_unet_output_blocks_2_2_conv"],
    ["sdxl", "unet", "down_blocks.0.downsamplers.0.conv", "lora_unet_input_blocks_3_0_op"],
    ["sdxl", "unet", "down_blocks.0.resnets.0.conv1", "lora_unet_input_blocks_1_0_in_layers_2"],
    ["sdxl", "unet", "mid_block.resnets.1.conv2", "lora_unet_middle_block_2_out_layers_3"],
    ["sdxl", "unet", "up_blocks.1.resnets.0.time_emb_proj", "lora_unet_output_blocks_3_0_emb_layers_1"],
    ["sdxl", "unet", "up_blocks.2.resnets.0.conv_shortcut", "lora_unet_output_blocks_6_0_skip_connection"],
    [
      "sdxl",
      "text_encoder",
      "text_model.encoder.layers.0.mlp.fc1",
      "lora_te1_text_model_encoder_layers_0_mlp_fc1",
    ],
    [
      "sdxl",
      "text_encoder_2",
      "text_model.encoder.layers.31.self_attn.q_proj",
      "lora_te2_text_model_encoder_layers_31_self_attn_q_proj",
    ],
    ["sdxl", "text_encoder_2", "text_projection", "lora_te2_text_projection"],
  ])("%s %s %s", (model, component, path, name) => {
    const known = moduleAt(component, path)!;
    expect(known.kinds.has(model)).toBe(true);
    expect(kohyaNameOf(known, model === "sdxl" ? "sdxl" : "flat")).toBe(name);
    expect(moduleOfKohyaName(name)).toBe(known);
  });

  it("reads SDXL's modules under diffusers' names too, and lora_te1 of any model", () => {
    const attention = moduleAt("unet", "down_blocks.1.attentions.0.transformer_blocks.1.attn1.to_q");
    expect(moduleOfKohyaName("lora_unet_down_blocks_1_attentions_0_transformer_blocks_1_attn1_to_q")).toBe(
      attention,
    );
    const last = moduleAt("text_encoder", "text_model.encoder.layers.22.mlp.fc2");
    expect(moduleOfKohyaName("lora_te1_text_model_encoder_layers_22_mlp_fc2")).toBe(last);
  });

  it.each([
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_1_attn1_to_q",
    "lora_unet_input_blocks_1_1_proj_in",
    "lora_unet_down_blocks_4_resnets_0_conv1",
    "lora_unet_conv_norm_out",
    "lora_te_text_model_encoder_layers_23_mlp_fc1",
    "lora_te2_text_model_encoder_layers_32_mlp_fc1",
    "lora_te_text_model_embeddings_token_embedding",
    "lora_unet_",
    "constructor",
  ])("knows no %s", (name) => expect(moduleOfKohyaName(name)).toBeNull());

  it("leads from every name to one module", () => {
    const seen = new Map<string, unknown>();
    for (const known of new Set(MODELS.flatMap(modulesOf))) {
      for (const name of new Set([known.flatName, known.sdxlName])) {
        if (name === null) continue;
        expect(seen.get(name)).toBeUndefined();
        seen.set(name, known);
        expect(moduleOfKohyaName(name)).toBe(known);
      }
      expect(moduleAt(known.component, known.path)).toBe(known);
    }
  });
});

describe("the lists", () => {
  const isTarget = (path: string) =>
    !/^(conv_in|conv_out|time_embedding|add_embedding|text_projection)/.test(path);

  it.each([
    ["sd1", { unet: 278, text_encoder: 72, text_encoder_2: 0 }],
    ["sd2", { unet: 278, text_encoder: 138, text_encoder_2: 0 }],
    ["sdxl", { unet: 788, text_encoder: 72, text_encoder_2: 192 }],
  ] as const)("of %s hold all that sd-scripts trains, and what is outside of blocks", (model, counts) => {
    const modules = modulesOf(model);
    const count = (component: string) =>
      modules.filter((module) => module.component === component && isTarget(module.path)).length;
    expect({
      unet: count("unet"),
      text_encoder: count("text_encoder"),
      text_encoder_2: count("text_encoder_2"),
    }).toEqual(counts);
    expect(
      modules
        .filter(({ path }) => !isTarget(path))
        .map(({ path }) => path)
        .sort(),
    ).toEqual(
      model === "sdxl"
        ? [
            "add_embedding.linear_1",
            "add_embedding.linear_2",
            "conv_in",
            "conv_out",
            "text_projection",
            "time_embedding.linear_1",
            "time_embedding.linear_2",
          ]
        : ["conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2"],
    );
  });

  it("know what a module is in which model", () => {
    const projection = moduleAt("unet", "mid_block.attentions.0.proj_in")!;
    expect(MODELS.map((model) => kindOfModule(projection, model))).toEqual(["conv1x1", "linear", "linear"]);
    expect(kindOfModule(projection, null)).toBeNull();
    const shortcut = moduleAt("unet", "up_blocks.0.resnets.0.conv_shortcut")!;
    expect(kindOfModule(shortcut, null)).toBe("conv1x1");
    // Only SD 1.x and 2.x have a fourth level.
    expect(kindOfModule(moduleAt("unet", "down_blocks.3.resnets.0.conv1")!, "sdxl")).toBe("conv3x3");
  });
});

describe("the whole list", () => {
  /** Of the first and last layers and the embeddings, which sd-scripts does not adapt. */
  const NOT_ADAPTED = /\.(conv_in|conv_out|(time|add)_embedding\.linear_\d|text_projection)$/;

  /**
   * SHA-256 of `<kohya name> <component>.<path> <kind>`, sorted, a line each. Computed outside of this repository: names and
   * kinds by walking the U-Net classes of sd-scripts (48d368fa) as its `LoRANetwork` does with `conv_dim`, SDXL's paths by its
   * `make_unet_conversion_map`, text encoders by transformers' names.
   */
  it.each([
    ["sd1", 278 + 72, "943fe566d35ed9657035e71f61c43ef1b41df1c0e266f7018cce303eab3179cb"],
    ["sd2", 278 + 138, "92cb37a87a9cd76eff873e99c7def768aa5ea9d335255fc6dc542f76107a81ac"],
    ["sdxl", 788 + 264, "d183eb2e9cf0fb47a899aaeaf72f367992392f752ff65a8747b1ea2c6db1b8b1"],
  ] as const)("of %s is that of sd-scripts' own classes", (model, count, sha256) => {
    const lines = modulesOf(model)
      .filter(({ component, path }) => !NOT_ADAPTED.test(`${component}.${path}`))
      .map((known) => {
        const name = kohyaNameOf(known, model === "sdxl" ? "sdxl" : "flat");
        return `${name} ${known.component}.${known.path} ${known.kinds.get(model)}`;
      })
      .sort();
    expect(lines).toHaveLength(count);
    expect(createHash("sha256").update(lines.join("\n")).digest("hex")).toBe(sha256);
  });
});
