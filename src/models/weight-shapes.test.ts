import { describe, expect, test } from "vitest";
import type { UnetConfig } from "./config.js";
import { SD_VAE, SD15_TEXT, SD15_UNET, SD21_TEXT, SD21_UNET } from "./reference-configs.js";
import { clipWeightShapes, countParameters, unetWeightShapes, vaeWeightShapes } from "./weight-shapes.js";

describe("the published models", () => {
  // Parameter counts of the diffusers and transformers classes with the published configs.
  test.each([
    ["SD 1.5 U-Net", unetWeightShapes(SD15_UNET), 686, 859_520_964],
    ["SD 2.1 U-Net", unetWeightShapes(SD21_UNET), 686, 865_910_724],
    ["SD 1.5 text encoder", clipWeightShapes(SD15_TEXT), 196, 123_060_480],
    ["SD 2.1 text encoder", clipWeightShapes(SD21_TEXT), 372, 340_387_840],
    ["VAE", vaeWeightShapes(SD_VAE), 248, 83_653_863],
  ])("%s has its tensors and parameters", (_, shapes, tensors, parameters) => {
    expect(shapes.size).toBe(tensors);
    expect(countParameters(shapes)).toBe(parameters);
  });

  test("known shapes of SD 1.5", () => {
    const shapes = unetWeightShapes(SD15_UNET);
    const inBlock = "up_blocks.1.attentions.2.transformer_blocks.0";
    expect(shapes.get("conv_in.weight")).toEqual([320, 4, 3, 3]);
    expect(shapes.get("down_blocks.0.attentions.0.proj_in.weight")).toEqual([320, 320, 1, 1]);
    expect(shapes.get(`${inBlock}.ff.net.0.proj.weight`)).toEqual([10240, 1280]);
    expect(shapes.get(`${inBlock}.attn2.to_v.weight`)).toEqual([1280, 768]);
    expect(shapes.has(`${inBlock}.attn2.to_v.bias`)).toBe(false);
    // Skip connections: of its own level, then of the level above.
    expect(shapes.get("up_blocks.1.resnets.0.conv1.weight")).toEqual([1280, 2560, 3, 3]);
    expect(shapes.get("up_blocks.1.resnets.2.conv1.weight")).toEqual([1280, 1920, 3, 3]);
    expect(shapes.get("up_blocks.3.resnets.0.conv1.weight")).toEqual([320, 960, 3, 3]);
    expect(shapes.has("down_blocks.3.downsamplers.0.conv.weight")).toBe(false);
    expect(shapes.has("up_blocks.3.upsamplers.0.conv.weight")).toBe(false);
  });

  test("SD 2.1 projects with Linear layers", () => {
    const shapes = unetWeightShapes(SD21_UNET);
    expect(shapes.get("down_blocks.0.attentions.0.proj_in.weight")).toEqual([320, 320]);
  });

  test("the VAE's attention is Linear", () => {
    const shapes = vaeWeightShapes(SD_VAE);
    expect(shapes.get("encoder.mid_block.attentions.0.to_q.weight")).toEqual([512, 512]);
    expect(shapes.get("decoder.mid_block.attentions.0.to_out.0.bias")).toEqual([512]);
    expect(shapes.get("encoder.conv_out.weight")).toEqual([8, 512, 3, 3]);
  });
});

test("levels may differ in resnets, transformer depth and attention", () => {
  const config: UnetConfig = {
    ...SD15_UNET,
    blockOutChannels: [32, 64, 96],
    layersPerBlock: [1, 3, 2],
    downTransformerDepth: [0, 2, 1],
    midTransformerDepth: 3,
    upTransformerDepth: [1, 0, 2],
    headsPerLevel: [8, 8, 8],
  };
  const names = [...unetWeightShapes(config).keys()];
  const count = (pattern: RegExp) => names.filter((name) => pattern.test(name)).length;
  expect(count(/^down_blocks\.\d\.resnets\.\d\.conv1\.weight$/)).toBe(6);
  expect(count(/^up_blocks\.\d\.resnets\.\d\.conv1\.weight$/)).toBe(9);
  expect(count(/^down_blocks\.0\.attentions/)).toBe(0);
  expect(count(/^down_blocks\.1\.attentions\.\d\.transformer_blocks\.\d\.norm1\.weight$/)).toBe(6);
  expect(count(/^mid_block\.attentions\.0\.transformer_blocks\.\d\.norm1\.weight$/)).toBe(3);
  // Up block 0 is level 2: three resnets, each with two transformer blocks.
  expect(count(/^up_blocks\.0\.attentions\.\d\.transformer_blocks\.\d\.norm1\.weight$/)).toBe(6);
  expect(count(/^up_blocks\.1\.attentions/)).toBe(0);
  expect(count(/^up_blocks\.2\.attentions\.\d\.norm\.weight$/)).toBe(2);
});
