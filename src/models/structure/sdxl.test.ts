import { describe, expect, test } from "vitest";
import { type LoraTarget, loraTargets } from "../lora-targets.js";
import { SDXL_TEXT, SDXL_TEXT_2, SDXL_UNET } from "../reference-configs.js";
import { sdxlTextEncoder2Modules, sdxlUnetModules } from "./sdxl.js";

const countKinds = (targets: readonly LoraTarget[]) => {
  const count = (kind: LoraTarget["kind"]) => targets.filter((target) => target.kind === kind).length;
  return [count("linear"), count("conv1x1"), count("conv3x3")];
};

const parametersPerRank = (targets: readonly LoraTarget[]) =>
  targets.reduce((sum, { inFeatures, outFeatures }) => sum + inFeatures + outFeatures, 0);

describe("counts of sd-scripts for SDXL", () => {
  const unet = loraTargets({ unet: SDXL_UNET, textEncoder: SDXL_TEXT }, { unetOnly: true });
  const withConv = loraTargets(
    { unet: SDXL_UNET, textEncoder: SDXL_TEXT },
    { unetOnly: true, convDim: true },
  );
  const texts = [SDXL_TEXT, SDXL_TEXT_2].map((textEncoder) =>
    loraTargets({ unet: SDXL_UNET, textEncoder }, { textEncoderOnly: true }),
  );

  test("722 modules of the U-Net, 788 with conv_dim, 72 and 192 of the text encoders", () => {
    expect(countKinds(unet)).toEqual([722, 0, 0]);
    expect(countKinds(withConv)).toEqual([739, 11, 38]);
    expect(texts.map((targets) => targets.length)).toEqual([72, 192]);
  });

  test("parameters per rank", () => {
    expect(parametersPerRank(unet)).toBe(2_659_840);
    expect(parametersPerRank(texts.flat())).toBe(903_168);
  });
});

test("the U-Net has SDXL's number of parameters", () => {
  const count = sdxlUnetModules().reduce(
    (sum, { weightShape, hasBias }) =>
      sum + weightShape.reduce((product, size) => product * size, 1) + (hasBias ? weightShape[0]! : 0),
    0,
  );
  expect(count).toBe(2_567_463_684);
});

test("every name is used once", () => {
  for (const modules of [sdxlUnetModules(), sdxlTextEncoder2Modules()]) {
    for (const key of ["path", "originalPath"] as const) {
      expect(new Set(modules.map((module) => module[key])).size).toBe(modules.length);
    }
  }
});

test("the U-Net's modules have the names of both namings", () => {
  const originals = new Map(sdxlUnetModules().map(({ path, originalPath }) => [path, originalPath]));
  // Written down from the published checkpoint and the diffusers repository.
  const pairs: Record<string, string> = {
    conv_in: "input_blocks.0.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "down_blocks.0.resnets.1.conv1": "input_blocks.2.0.in_layers.2",
    "down_blocks.0.downsamplers.0.conv": "input_blocks.3.0.op",
    "down_blocks.1.resnets.0.conv_shortcut": "input_blocks.4.0.skip_connection",
    "down_blocks.1.attentions.0.proj_in": "input_blocks.4.1.proj_in",
    "down_blocks.2.attentions.1.transformer_blocks.9.ff.net.0.proj":
      "input_blocks.8.1.transformer_blocks.9.ff.net.0.proj",
    "mid_block.attentions.0.transformer_blocks.3.attn2.to_v":
      "middle_block.1.transformer_blocks.3.attn2.to_v",
    "mid_block.resnets.1.time_emb_proj": "middle_block.2.emb_layers.1",
    "up_blocks.0.attentions.0.proj_out": "output_blocks.0.1.proj_out",
    "up_blocks.0.upsamplers.0.conv": "output_blocks.2.2.conv",
    "up_blocks.1.attentions.2.transformer_blocks.1.attn1.to_out.0":
      "output_blocks.5.1.transformer_blocks.1.attn1.to_out.0",
    "up_blocks.1.upsamplers.0.conv": "output_blocks.5.2.conv",
    "up_blocks.2.resnets.2.conv2": "output_blocks.8.0.out_layers.3",
    conv_out: "out.2",
  };
  expect(Object.fromEntries(Object.keys(pairs).map((path) => [path, originals.get(path)]))).toEqual(pairs);
  expect(originals.has("down_blocks.0.attentions.0.proj_in")).toBe(false);
  expect(originals.has("down_blocks.3.resnets.0.conv1")).toBe(false);
});

test("the second text encoder has 32 layers and a projection", () => {
  const modules = new Map(sdxlTextEncoder2Modules().map((module) => [module.path, module.weightShape]));
  expect(modules.get("text_model.encoder.layers.31.mlp.fc1")).toEqual([5120, 1280]);
  expect(modules.has("text_model.encoder.layers.32.mlp.fc1")).toBe(false);
  expect(modules.get("text_projection")).toEqual([1280, 1280]);
});
