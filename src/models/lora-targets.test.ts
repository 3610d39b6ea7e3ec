import { describe, expect, test } from "vitest";
import { DyloraError } from "../errors.js";
import { type LoraTarget, type LoraTargetOptions, loraFactorShapes, loraTargets } from "./lora-targets.js";
import { SD15_TEXT, SD15_UNET, SD21_TEXT, SD21_UNET } from "./reference-configs.js";
import { clipWeightShapes, unetWeightShapes } from "./weight-shapes.js";

const SD15 = { unet: SD15_UNET, textEncoder: SD15_TEXT };
const SD21 = { unet: SD21_UNET, textEncoder: SD21_TEXT };

function countKinds(targets: readonly LoraTarget[]) {
  const count = (kind: LoraTarget["kind"]) => targets.filter((target) => target.kind === kind).length;
  return { linear: count("linear"), conv1x1: count("conv1x1"), conv3x3: count("conv3x3") };
}

/** Parameters that one unit of rank costs. */
function parametersPerRank(targets: readonly LoraTarget[]): number {
  return targets.reduce((sum, { inFeatures, outFeatures }) => sum + inFeatures + outFeatures, 0);
}

describe("counts of sd-scripts", () => {
  const unetOnly: LoraTargetOptions = { unetOnly: true };
  const unetConv: LoraTargetOptions = { unetOnly: true, convDim: true };
  const textEncoderOnly: LoraTargetOptions = { textEncoderOnly: true };
  test.each([
    ["SD 1.x U-Net", SD15, unetOnly, { linear: 160, conv1x1: 32, conv3x3: 0 }],
    ["SD 1.x U-Net with conv_dim", SD15, unetConv, { linear: 182, conv1x1: 46, conv3x3: 50 }],
    ["SD 1.x text encoder", SD15, textEncoderOnly, { linear: 72, conv1x1: 0, conv3x3: 0 }],
    ["SD 2.x U-Net", SD21, unetOnly, { linear: 192, conv1x1: 0, conv3x3: 0 }],
    ["SD 2.x U-Net with conv_dim", SD21, unetConv, { linear: 214, conv1x1: 14, conv3x3: 50 }],
    ["SD 2.x text encoder", SD21, textEncoderOnly, { linear: 138, conv1x1: 0, conv3x3: 0 }],
    ["SD 1.x, both", SD15, {}, { linear: 232, conv1x1: 32, conv3x3: 0 }],
    ["SD 2.x, both", SD21, {}, { linear: 330, conv1x1: 0, conv3x3: 0 }],
  ])("%s", (_, models, options, kinds) => {
    expect(countKinds(loraTargets(models, options))).toEqual(kinds);
  });

  test.each([
    ["SD 1.x U-Net", SD15, unetOnly, 423_936],
    ["SD 1.x text encoder", SD15, textEncoderOnly, 165_888],
    ["SD 2.x U-Net", SD21, unetOnly, 432_128],
    ["SD 2.x text encoder", SD21, textEncoderOnly, 423_936],
  ])("parameters per rank of %s", (_, models, options, parameters) => {
    expect(parametersPerRank(loraTargets(models, options))).toBe(parameters);
  });
});

describe("targets", () => {
  const targets = loraTargets(SD15, { convDim: true });
  const names = targets.map(({ name }) => name);

  test("have unique names", () => {
    expect(new Set(names).size).toBe(names.length);
  });

  test("come as sd-scripts creates them: text encoder, then U-Net down, up, middle", () => {
    expect(names.slice(0, 6)).toEqual(
      [
        "self_attn_k_proj",
        "self_attn_v_proj",
        "self_attn_q_proj",
        "self_attn_out_proj",
        "mlp_fc1",
        "mlp_fc2",
      ].map((module) => `lora_te_text_model_encoder_layers_0_${module}`),
    );
    const block = "lora_unet_down_blocks_0_attentions_0";
    expect(names.slice(72, 84)).toEqual([
      `${block}_proj_in`,
      ...["to_q", "to_k", "to_v", "to_out_0"].map(
        (module) => `${block}_transformer_blocks_0_attn1_${module}`,
      ),
      `${block}_transformer_blocks_0_ff_net_0_proj`,
      `${block}_transformer_blocks_0_ff_net_2`,
      ...["to_q", "to_k", "to_v", "to_out_0"].map(
        (module) => `${block}_transformer_blocks_0_attn2_${module}`,
      ),
      `${block}_proj_out`,
    ]);
    const blockOrder = [...new Set(names.slice(72).map((name) => name.match(/(down|up|mid)_block/)?.[1]))];
    expect(blockOrder).toEqual(["down", "up", "mid"]);
    expect(names.indexOf("lora_unet_down_blocks_0_attentions_1_proj_out")).toBeLessThan(
      names.indexOf("lora_unet_down_blocks_0_resnets_0_conv1"),
    );
    expect(names.indexOf("lora_unet_down_blocks_0_resnets_1_conv2")).toBeLessThan(
      names.indexOf("lora_unet_down_blocks_0_downsamplers_0_conv"),
    );
  });

  test("point at weights of their shape", () => {
    const shapes = new Map([...unetWeightShapes(SD15_UNET), ...clipWeightShapes(SD15_TEXT)]);
    for (const { path, kind, inFeatures, outFeatures } of targets) {
      const kernel = kind === "linear" ? [] : kind === "conv1x1" ? [1, 1] : [3, 3];
      expect(shapes.get(`${path}.weight`), path).toEqual([outFeatures, inFeatures, ...kernel]);
    }
  });

  test("have stride 2 in downsamplers only", () => {
    const strided = targets.filter(({ stride }) => stride === 2).map(({ path }) => path);
    expect(strided).toEqual([0, 1, 2].map((level) => `down_blocks.${level}.downsamplers.0.conv`));
  });

  test("leave out the layers outside of blocks", () => {
    expect(names.filter((name) => /conv_in|conv_out|time_embedding/.test(name))).toEqual([]);
  });
});

test("the convolution of a factor pair stays in down", () => {
  const target = loraTargets(SD15, { convDim: true }).find(({ kind }) => kind === "conv3x3")!;
  expect(loraFactorShapes(target, 8)).toEqual({ down: [8, 320, 3, 3], up: [320, 8, 1, 1] });
  expect(loraFactorShapes({ ...target, kind: "conv1x1" }, 8)).toEqual({
    down: [8, 320, 1, 1],
    up: [320, 8, 1, 1],
  });
  expect(loraFactorShapes({ ...target, kind: "linear" }, 8)).toEqual({ down: [8, 320], up: [320, 8] });
});

test("asking for both components alone is an error", () => {
  expect(() => loraTargets(SD15, { unetOnly: true, textEncoderOnly: true })).toThrow(DyloraError);
});
