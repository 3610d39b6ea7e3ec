import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { fileProducts } from "../../../test/helpers/file-products.js";
import { mergeFiles as merge } from "../../../test/helpers/merge-files.js";
import { type RandomModule, writeRandomAdapter } from "../../../test/helpers/random-adapter.js";
import { tempFolder } from "../../../test/helpers/temp-folder.js";
import { parseBlockWeights } from "./block-weights.js";

describe("block weights", () => {
  const scaleOf = async (text: string, name: string) => {
    const folder = await tempFolder();
    const a = join(folder, "a.safetensors");
    const module: RandomModule = { name, kind: "linear", rank: 2, inFeatures: 8, outFeatures: 6, alpha: 2 };
    const other: RandomModule = { ...module, name: "lora_unet_time_embedding_linear_1" };
    await writeRandomAdapter(a, { modules: [module, other], dtype: "F32" });
    const path = join(folder, "sum.safetensors");
    await merge([{ path: a, ratio: 1, blockWeights: text }], { path });
    const product = (await fileProducts(path)).get(name);
    const before = (await fileProducts(a)).get(name)!;
    return product === undefined ? 0 : product[0]! / before[0]!;
  };
  const list = (length: number) => Array.from({ length }, (_, i) => i / 32).join(",");
  const transformer = "transformer_blocks_0_attn1_to_q";

  test.each([
    // 17: BASE, IN01, IN02, IN04, IN05, IN07, IN08, M00, OUT03-OUT11.
    [17, "lora_te_text_model_encoder_layers_3_mlp_fc1", 0],
    [17, `lora_unet_down_blocks_0_attentions_0_${transformer}`, 1],
    [17, `lora_unet_down_blocks_0_attentions_1_${transformer}`, 2],
    [17, `lora_unet_down_blocks_1_attentions_0_${transformer}`, 3],
    [17, `lora_unet_down_blocks_2_attentions_1_${transformer}`, 6],
    [17, `lora_unet_mid_block_attentions_0_${transformer}`, 7],
    [17, `lora_unet_up_blocks_1_attentions_0_${transformer}`, 8],
    [17, `lora_unet_up_blocks_3_attentions_2_${transformer}`, 16],
    // 26: BASE, IN00-IN11, M00, OUT00-OUT11.
    [26, "lora_unet_down_blocks_0_downsamplers_0_conv", 4],
    [26, "lora_unet_down_blocks_3_resnets_1_conv1", 12],
    [26, "lora_unet_mid_block_resnets_0_conv1", 13],
    [26, "lora_unet_up_blocks_0_resnets_0_conv1", 14],
    [26, "lora_unet_up_blocks_0_upsamplers_0_conv", 16],
    [26, "lora_unet_up_blocks_3_resnets_2_conv2", 25],
    // 12 and 20: SDXL under its original names.
    [12, "lora_te2_text_model_encoder_layers_3_mlp_fc1", 0],
    [12, `lora_unet_input_blocks_4_1_${transformer}`, 1],
    [12, `lora_unet_input_blocks_8_1_${transformer}`, 4],
    [12, `lora_unet_middle_block_1_${transformer}`, 5],
    [12, `lora_unet_output_blocks_0_1_${transformer}`, 6],
    [12, `lora_unet_output_blocks_5_1_${transformer}`, 11],
    [20, "lora_unet_input_blocks_3_0_op", 4],
    [20, "lora_unet_output_blocks_8_0_in_layers_2", 19],
  ])("value of a list of %i for %s is number %i", async (length, name, index) => {
    expect(await scaleOf(list(length), name)).toBeCloseTo(index / 32, 6);
  });

  test("names and groups, later ones winning; everything else keeps weight 1", async () => {
    const text = "OUT=0.5, out04=0.25,TE=0,MID=-1";
    expect(await scaleOf(text, `lora_unet_up_blocks_1_attentions_0_${transformer}`)).toBeCloseTo(0.5);
    expect(await scaleOf(text, `lora_unet_up_blocks_1_attentions_1_${transformer}`)).toBeCloseTo(0.25);
    expect(await scaleOf(text, "lora_te_text_model_encoder_layers_3_mlp_fc1")).toBe(0);
    expect(await scaleOf(text, `lora_unet_mid_block_attentions_0_${transformer}`)).toBeCloseTo(-1);
    expect(await scaleOf(text, `lora_unet_down_blocks_0_attentions_0_${transformer}`)).toBe(1);
    expect(await scaleOf("0.75", "lora_te_text_model_encoder_layers_3_mlp_fc1")).toBeCloseTo(0.75);
  });

  test("a block that the list does not name keeps its strength, and that is said", async () => {
    const folder = await tempFolder();
    const a = join(folder, "a.safetensors");
    const modules: RandomModule[] = [
      {
        name: "lora_unet_down_blocks_0_downsamplers_0_conv",
        kind: "conv3x3",
        rank: 2,
        inFeatures: 4,
        outFeatures: 4,
      },
    ];
    await writeRandomAdapter(a, { modules });
    const path = join(folder, "b.safetensors");
    const blockWeights = new Array(17).fill(0).join(",");
    const report = await merge([{ path: a, ratio: 1, blockWeights }], { path });
    expect(report.notes).toEqual([expect.stringContaining("(IN03): they keep weight 1")]);
    // Who names blocks knows which ones are not named.
    const named = await merge([{ path: a, ratio: 1, blockWeights: "TE=0" }], { path, overwrite: true });
    expect(named.notes).toEqual([]);
  });

  test.each([
    ["1,2,3", "3 values in 1,2,3"],
    ["IN=x", '"x" is no number'],
    ["1,,1", '"" is no number'],
    ["IN99=1", "there is no block IN99"],
    ["OUT=1,0.5", "0.5 is no BLOCK=value pair"],
    ["constructor=1", "there is no block constructor"],
  ])("%s is refused", (text, message) => {
    expect(() => parseBlockWeights(text)).toThrow(expect.objectContaining({ code: "E_USAGE" }));
    expect(() => parseBlockWeights(text)).toThrow(message);
  });
});
