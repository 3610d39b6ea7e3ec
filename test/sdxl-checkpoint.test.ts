/** Merging into SDXL and back: names of a structure that is not run here, so weights are compared instead of outputs. */
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { openAdapter } from "../src/adapter/index.js";
import { SafetensorsFile } from "../src/safetensors/index.js";
import { diffCheckpoints } from "../src/surgery/diff/diff.js";
import { planMergeIntoBase, runMergeIntoBase } from "../src/surgery/merge/base.js";
import { verifyFile } from "../src/surgery/verify/verify.js";
import { fileProducts } from "./helpers/file-products.js";
import { relativeDifference } from "./helpers/matrix.js";
import { writeRandomAdapter } from "./helpers/random-adapter.js";
import { modulesForSdxl, writeRandomSdxl, writeRandomSdxlDiffusers } from "./helpers/random-checkpoint.js";
import { writeJson } from "./helpers/sparse-safetensors.js";
import { tempFolder } from "./helpers/temp-folder.js";

let folder: string;
const at = (name: string) => join(folder, name);

async function mergeInto(base: string, parts: readonly (readonly [string, number])[], out: string) {
  const adapters = await Promise.all(parts.map(([path]) => openAdapter(path)));
  const inputs = parts.map(([, ratio], i) => ({ adapter: adapters[i]!, ratio }));
  const report = await runMergeIntoBase(await planMergeIntoBase(base, inputs, out));
  for (const adapter of adapters) await adapter.close();
  return report;
}

beforeAll(async () => {
  folder = await tempFolder();
  await writeRandomSdxl(at("base.safetensors"));
  await writeRandomSdxlDiffusers(at("base"));
  await writeRandomAdapter(at("usual.safetensors"), {
    modules: modulesForSdxl(2),
    dtype: "F32",
    alpha: 3,
    seed: 5,
  });
  await writeRandomAdapter(at("flat.safetensors"), {
    modules: modulesForSdxl(3, "flat"),
    dtype: "F32",
    alpha: 3,
    seed: 5000,
  });
});

/** Original name, rows of it, and the module in both namings. */
const SAMPLES = [
  [
    "model.diffusion_model.input_blocks.4.1.transformer_blocks.1.attn2.to_k.weight",
    null,
    "lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_k",
    "lora_unet_down_blocks_1_attentions_0_transformer_blocks_1_attn2_to_k",
  ],
  [
    "model.diffusion_model.middle_block.1.proj_in.weight",
    null,
    "lora_unet_middle_block_1_proj_in",
    "lora_unet_mid_block_attentions_0_proj_in",
  ],
  [
    "model.diffusion_model.output_blocks.8.0.in_layers.2.weight",
    null,
    "lora_unet_output_blocks_8_0_in_layers_2",
    "lora_unet_up_blocks_2_resnets_2_conv1",
  ],
  [
    "conditioner.embedders.0.transformer.text_model.encoder.layers.11.mlp.fc2.weight",
    null,
    "lora_te1_text_model_encoder_layers_11_mlp_fc2",
    "lora_te1_text_model_encoder_layers_11_mlp_fc2",
  ],
  ...(["q", "k", "v"] as const).map(
    (part, block) =>
      [
        "conditioner.embedders.1.model.transformer.resblocks.31.attn.in_proj_weight",
        block,
        `lora_te2_text_model_encoder_layers_31_self_attn_${part}_proj`,
        `lora_te2_text_model_encoder_layers_31_self_attn_${part}_proj`,
      ] as const,
  ),
  [
    "conditioner.embedders.1.model.transformer.resblocks.0.mlp.c_fc.weight",
    null,
    "lora_te2_text_model_encoder_layers_0_mlp_fc1",
    "lora_te2_text_model_encoder_layers_0_mlp_fc1",
  ],
] as const satisfies readonly unknown[];

describe("one file", () => {
  test("every weight changes by its product, whatever the adapter calls its module", async () => {
    const report = await mergeInto(
      at("base.safetensors"),
      [
        [at("usual.safetensors"), 1],
        [at("flat.safetensors"), -0.5],
      ],
      at("merged.safetensors"),
    );
    expect(report.changedModules).toBe(788 + 72 + 192);
    const [usual, flat] = [
      await fileProducts(at("usual.safetensors")),
      await fileProducts(at("flat.safetensors")),
    ];
    await using before = await SafetensorsFile.open(at("base.safetensors"));
    await using after = await SafetensorsFile.open(at("merged.safetensors"));
    for (const [name, block, usualName, flatName] of SAMPLES) {
      const [was, is] = [await before.readFloat32(name), await after.readFloat32(name)];
      const count = usual.get(usualName)!.length;
      const first = (block ?? 0) * count;
      const change = is.slice(first, first + count).map((value, i) => value - was[first + i]!);
      const expected = usual.get(usualName)!.map((value, i) => value - 0.5 * flat.get(flatName)![i]!);
      expect([name, relativeDifference(change, expected) < 1e-5]).toEqual([name, true]);
    }
    for (const name of [
      "first_stage_model.decoder.conv_in.weight",
      "model.diffusion_model.input_blocks.0.0.weight",
    ]) {
      expect(Buffer.compare(await before.read(name), await after.read(name))).toBe(0);
    }
  });

  test("the difference of merged and base is the adapter, under kohya's usual names", async () => {
    await mergeInto(at("base.safetensors"), [[at("flat.safetensors"), 1]], at("tuned.safetensors"));
    const path = at("diff.safetensors");
    const report = await diffCheckpoints(at("base.safetensors"), at("tuned.safetensors"), {
      path,
      rank: 3,
      dtype: "F32",
    });
    expect(report).toMatchObject({ unchangedCount: 0, notRepresented: [] });
    const [found, expected] = [await fileProducts(path), await fileProducts(at("flat.safetensors"))];
    expect([...found.keys()].sort()).toEqual(
      modulesForSdxl(1)
        .map(({ name }) => name)
        .sort(),
    );
    for (const [, , usualName, flatName] of SAMPLES) {
      expect(relativeDifference(found.get(usualName)!, expected.get(flatName)!)).toBeLessThan(1e-5);
    }
    await using adapter = await openAdapter(path);
    expect(adapter.metadata).toMatchObject({
      ss_base_model_version: "sdxl_base_v1-0",
      "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
    });
  });
});

test("a diffusers folder", async () => {
  const report = await mergeInto(at("base"), [[at("usual.safetensors"), 1]], at("merged"));
  expect(report).toMatchObject({ changedModules: 788 + 72 + 192, layout: "diffusers" });
  const path = at("diff2.safetensors");
  await diffCheckpoints(at("base"), at("merged"), { path, rank: 2, dtype: "F32" });
  const [found, expected] = [await fileProducts(path), await fileProducts(at("usual.safetensors"))];
  for (const [name, product] of expected)
    expect([name, relativeDifference(found.get(name)!, product) < 1e-5]).toEqual([name, true]);
  await expect(
    diffCheckpoints(at("base"), at("base.safetensors"), { path, rank: 2, overwrite: true }),
  ).rejects.toMatchObject({
    code: "E_INCOMPATIBLE",
    message: expect.stringContaining("one is a single file and the other a diffusers folder"),
  });
});

test("a diffusers folder's scheduler says what the model predicts", async () => {
  await writeJson(join(at("base"), "scheduler"), "scheduler_config.json", {
    prediction_type: "v_prediction",
  });
  await mergeInto(at("base"), [[at("usual.safetensors"), 1]], at("merged-v"));
  const path = at("diff-v.safetensors");
  await diffCheckpoints(at("base"), at("merged-v"), { path, rank: 2 });
  await using adapter = await openAdapter(path);
  expect(adapter.metadata["modelspec.prediction_type"]).toBe("v");
});

test("verify tells how much of the model an adapter covers", async () => {
  const { problems, ok } = await verifyFile(at("usual.safetensors"), { basePath: at("base.safetensors") });
  expect(ok).toBe(true);
  expect(problems.map(({ message }) => message)).toEqual([
    expect.stringContaining(
      "788 of 788 modules of the U-Net, 72 of 72 modules of the text encoder, 192 of 192 modules of the second text encoder",
    ),
  ]);
});
