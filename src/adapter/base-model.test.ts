import { describe, expect, it } from "vitest";
import { readBaseModel } from "./base-model.js";
import type { LoraModule } from "./module.js";

describe("from metadata", () => {
  it.each([
    [{ ss_base_model_version: "sd_v1" }, "sd1", "epsilon"],
    [{ ss_base_model_version: "sd_v1_v" }, "sd1", "v_prediction"],
    [{ ss_base_model_version: "sd_v2" }, "sd2", "epsilon"],
    [{ ss_base_model_version: "sd_v2_v" }, "sd2", "v_prediction"],
    [{ ss_base_model_version: "sdxl_base_v1-0" }, "sdxl", "epsilon"],
    [{ "modelspec.architecture": "stable-diffusion-v1/lora" }, "sd1", null],
    [
      { "modelspec.architecture": "stable-diffusion-v2-768-v/lora", "modelspec.prediction_type": "v" },
      "sd2",
      "v_prediction",
    ],
    [
      {
        "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
        "modelspec.prediction_type": "epsilon",
      },
      "sdxl",
      "epsilon",
    ],
    [{ ss_base_model_version: "None", "modelspec.architecture": "flux-1-dev/lora" }, null, null],
    [{}, null, null],
  ] as const)("%j", (metadata, fromMetadata, predictionType) => {
    const values = Object.values(metadata).filter((value) => value !== "None");
    expect(readBaseModel(metadata, [])).toEqual({
      stated: values[0] ?? null,
      fromMetadata,
      fromShapes: null,
      predictionType,
    });
  });
});

describe("from names and shapes", () => {
  function module(name: string, inFeatures: number): LoraModule {
    const component = name.startsWith("lora_unet")
      ? "unet"
      : name.startsWith("lora_te2")
        ? "text_encoder_2"
        : "text_encoder";
    return { name, component, kind: "linear", rank: 4, alpha: 4, inFeatures, outFeatures: 8 } as LoraModule;
  }
  const attention = "down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k";

  it.each([
    [`lora_unet_${attention}`, 768, "sd1"],
    [`lora_unet_${attention}`, 1024, "sd2"],
    [`lora_unet_${attention}`, 2048, "sdxl"],
    [`lora_unet_${attention}`, 64, null],
    ["lora_unet_input_blocks_4_1_proj_in", 640, "sdxl"],
    ["lora_unet_down_blocks_0_attentions_0_proj_in", 320, null],
    ["lora_te_text_model_encoder_layers_0_self_attn_q_proj", 768, "sd1"],
    ["lora_te_text_model_encoder_layers_0_self_attn_q_proj", 1024, "sd2"],
    ["lora_te1_text_model_encoder_layers_0_self_attn_q_proj", 768, null],
    ["lora_te2_text_model_encoder_layers_0_self_attn_q_proj", 1280, "sdxl"],
  ] as const)("%s with %i inputs", (name, inFeatures, expected) => {
    expect(readBaseModel({}, [module(name, inFeatures)]).fromShapes).toBe(expected);
  });
});
