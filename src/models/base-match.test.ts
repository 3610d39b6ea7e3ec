import { describe, expect, test } from "vitest";
import { DyloraError } from "../errors.js";
import { type AdapterModuleShape, checkAdapterFitsBase } from "./base-match.js";
import { type LoraTarget, loraFactorShapes, loraTargets } from "./lora-targets.js";
import { SD15_TEXT, SD15_UNET, SD21_TEXT, SD21_UNET } from "./reference-configs.js";

const SD15 = loraTargets({ unet: SD15_UNET, textEncoder: SD15_TEXT }, { convDim: true });
const SD21 = loraTargets({ unet: SD21_UNET, textEncoder: SD21_TEXT }, { convDim: true });

function adapterFor(targets: readonly LoraTarget[], rank = 4): AdapterModuleShape[] {
  return targets.map((target) => {
    const { down, up } = loraFactorShapes(target, rank);
    return { name: target.name, down: { shape: down }, up: { shape: up } };
  });
}

function misfit(targets: readonly LoraTarget[], modules: readonly AdapterModuleShape[]): DyloraError {
  try {
    checkAdapterFitsBase(targets, modules);
  } catch (error) {
    if (error instanceof DyloraError) return error;
    throw error;
  }
  throw new Error("expected a misfit");
}

describe("an adapter of the base", () => {
  test("pairs every module with its target, in the adapter's order", () => {
    const modules = adapterFor(SD15).reverse();
    const { matched, untouched } = checkAdapterFitsBase(SD15, modules);
    expect(matched.map(({ module }) => module)).toEqual(modules);
    expect(matched.every(({ module, target }) => module.name === target.name)).toBe(true);
    expect(untouched).toEqual([]);
  });

  test("need not touch everything", () => {
    const modules = adapterFor(SD15.filter(({ component }) => component === "unet"));
    const { untouched } = checkAdapterFitsBase(SD15, modules);
    expect(untouched.map(({ component }) => component)).toEqual(new Array(72).fill("text_encoder"));
  });

  test("may have proj_in as Linear on a base with 1x1 convolutions, and the other way round", () => {
    const name = "lora_unet_down_blocks_0_attentions_0_proj_in";
    const flat = { name, down: { shape: [4, 320] }, up: { shape: [320, 4] } };
    const conv = { name, down: { shape: [4, 320, 1, 1] }, up: { shape: [320, 4, 1, 1] } };
    expect(checkAdapterFitsBase(SD15, [flat]).matched).toHaveLength(1);
    expect(checkAdapterFitsBase(SD21, [conv]).matched).toHaveLength(1);
  });
});

describe("an adapter of another base", () => {
  test("SD 2.x on SD 1.x names modules, both bases and the remedy", () => {
    const error = misfit(SD15, adapterFor(SD21));
    expect(error.code).toBe("E_INCOMPATIBLE");
    // All 138 modules of the text encoder, and to_k and to_v of the 16 cross attentions.
    expect(error.message).toContain("170 of 416 modules do not fit");
    expect(error.message).toContain(
      "lora_te_text_model_encoder_layers_0_self_attn_k_proj (expected down [4, 768] and up [768, 4], found [4, 1024] and [1024, 4])",
    );
    expect(error.message).toContain("and 167 more");
    expect(error.note).toContain("made for Stable Diffusion 2.x (context width 1024");
    expect(error.note).toContain("given is Stable Diffusion 1.x (context width 768");
  });

  test("a 3x3 convolution is not a Linear layer", () => {
    const name = "lora_unet_down_blocks_0_resnets_0_conv1";
    const error = misfit(SD15, [{ name, down: { shape: [4, 320] }, up: { shape: [320, 4] } }]);
    expect(error.message).toContain("[4, 320, 3, 3]");
  });

  test.each([
    ["SDXL", "lora_te1_text_model_encoder_layers_0_mlp_fc1"],
    ["SDXL", "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"],
    ["Flux", "lora_unet_double_blocks_0_img_attn_proj"],
    ["Stable Diffusion 3", "lora_unet_joint_blocks_0_context_block_attn_proj"],
  ])("%s is recognised by %s", (family, name) => {
    const error = misfit(SD15, [{ name, down: { shape: [4, 64] }, up: { shape: [64, 4] } }]);
    expect(error.message).toContain(`${name} (not in this base model)`);
    expect(error.note).toContain(`made for ${family};`);
  });

  test("factors of different ranks do not fit", () => {
    const name = "lora_te_text_model_encoder_layers_0_mlp_fc1";
    misfit(SD15, [{ name, down: { shape: [4, 768] }, up: { shape: [3072, 8] } }]);
    misfit(SD15, [{ name, down: { shape: [0, 768] }, up: { shape: [3072, 0] } }]);
  });
});
