/** Any structure, written under the original names or as a diffusers folder, must be read back as it was. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  diffusersClipConfig,
  diffusersUnetConfig,
  diffusersVaeConfig,
  sparseTensors,
  writeJson,
  writeSparseSafetensors,
} from "../../../test/helpers/sparse-safetensors.js";
import type { ClipTextConfig, ModelVersion, UnetConfig, VaeConfig } from "../config.js";
import { SD_VAE, SD15_TEXT, SD15_UNET, SD21_TEXT, SD21_UNET } from "../reference-configs.js";
import { clipWeightShapes, unetWeightShapes, vaeWeightShapes } from "../weight-shapes.js";
import { type CheckpointConfigs, openCheckpoint, originalWeightShapes, toOriginalName } from "./index.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "dylora-checkpoint-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function writeDiffusers(path: string, { unet, textEncoder, vae }: CheckpointConfigs): Promise<string> {
  await writeJson(join(path, "unet"), "config.json", diffusersUnetConfig(unet));
  await writeJson(join(path, "text_encoder"), "config.json", diffusersClipConfig(textEncoder));
  await writeJson(join(path, "vae"), "config.json", diffusersVaeConfig(vae));
  const weights = "diffusion_pytorch_model.safetensors";
  await writeSparseSafetensors(join(path, "unet", weights), sparseTensors(unetWeightShapes(unet)));
  await writeSparseSafetensors(
    join(path, "text_encoder", "model.safetensors"),
    sparseTensors(clipWeightShapes(textEncoder)),
  );
  await writeSparseSafetensors(join(path, "vae", weights), sparseTensors(vaeWeightShapes(vae)));
  return path;
}

async function expectRoundTrips(name: string, configs: CheckpointConfigs): Promise<void> {
  const single = join(folder, `${name}.safetensors`);
  await writeSparseSafetensors(single, sparseTensors(originalWeightShapes(configs)));
  const diffusers = await writeDiffusers(join(folder, name), configs);
  for (const path of [single, diffusers]) {
    const checkpoint = await openCheckpoint(path);
    expect(checkpoint.version).toBe(configs.version);
    expect(checkpoint.unet.config).toEqual(configs.unet);
    expect(checkpoint.textEncoder.config).toEqual(configs.textEncoder);
    expect(checkpoint.vae?.config).toEqual(configs.vae);
    expect(shapesOf(checkpoint.unet.weights)).toEqual(new Map(unetWeightShapes(configs.unet)));
    expect(shapesOf(checkpoint.textEncoder.weights)).toEqual(new Map(clipWeightShapes(configs.textEncoder)));
    expect(shapesOf(checkpoint.vae!.weights)).toEqual(new Map(vaeWeightShapes(configs.vae)));
  }
}

function shapesOf(weights: ReadonlyMap<string, { shape: readonly number[] }>) {
  return new Map([...weights].map(([name, { shape }]) => [name, shape]));
}

const SD15: CheckpointConfigs = { version: "sd1", unet: SD15_UNET, textEncoder: SD15_TEXT, vae: SD_VAE };
const SD21: CheckpointConfigs = { version: "sd2", unet: SD21_UNET, textEncoder: SD21_TEXT, vae: SD_VAE };

test("SD 1.5 at full size", () => expectRoundTrips("sd15", SD15));
test("SD 2.1 at full size", () => expectRoundTrips("sd21", SD21));

/** Structures within the limits of the file layouts: heads are not stored, so they follow the version's rule. */
const structures = fc
  .record({
    version: fc.constantFrom<ModelVersion>("sd1", "sd2"),
    levels: fc
      .array(
        fc.record({
          width: fc.constantFrom(64, 128, 192),
          layers: fc.integer({ min: 1, max: 3 }),
          downDepth: fc.integer({ min: 0, max: 2 }),
          hasUpAttention: fc.boolean(),
        }),
        { minLength: 1, maxLength: 5 },
      )
      .filter((levels) => levels.some(({ downDepth }) => downDepth > 0)),
    useLinearProjection: fc.boolean(),
    context: fc.constantFrom(64, 128),
    clipLayers: fc.integer({ min: 1, max: 3 }),
    vaeWidths: fc.array(fc.constantFrom(32, 64), { minLength: 1, maxLength: 4 }),
    vaeLayers: fc.integer({ min: 1, max: 3 }),
  })
  .map(
    ({
      version,
      levels,
      useLinearProjection,
      context,
      clipLayers,
      vaeWidths,
      vaeLayers,
    }): CheckpointConfigs => {
      const widths = levels.map(({ width }) => width);
      const unet: UnetConfig = {
        ...SD15_UNET,
        blockOutChannels: widths,
        layersPerBlock: levels.map(({ layers }) => layers),
        downTransformerDepth: levels.map(({ downDepth }) => downDepth),
        upTransformerDepth: levels.map(({ downDepth, hasUpAttention }) =>
          hasUpAttention ? Math.max(downDepth, 1) : 0,
        ),
        // A diffusers config gives the middle block the depth of the last level.
        midTransformerDepth: Math.max(levels.at(-1)!.downDepth, 1),
        headsPerLevel: widths.map((width) => (version === "sd1" ? 8 : width / 64)),
        crossAttentionDim: context,
        timeEmbedDim: 4 * widths[0]!,
        useLinearProjection,
      };
      const textEncoder: ClipTextConfig = {
        ...(version === "sd1" ? SD15_TEXT : SD21_TEXT),
        hiddenSize: context,
        intermediateSize: 4 * context,
        heads: context / 64,
        layers: clipLayers,
        vocabSize: 100,
      };
      const vae: VaeConfig = { ...SD_VAE, blockOutChannels: vaeWidths, layersPerBlock: vaeLayers };
      return { version, unet, textEncoder, vae };
    },
  );

test("any structure", async () => {
  let run = 0;
  await fc.assert(
    fc.asyncProperty(structures, (configs) => expectRoundTrips(`any-${run++}`, configs)),
    { numRuns: 20 },
  );
});

describe("original names", () => {
  const sd15 = toOriginalName(SD15);
  const sd21 = toOriginalName(SD21);

  test.each([
    ["unet", "conv_in.weight", "model.diffusion_model.input_blocks.0.0.weight"],
    [
      "unet",
      "down_blocks.1.resnets.0.conv_shortcut.bias",
      "model.diffusion_model.input_blocks.4.0.skip_connection.bias",
    ],
    ["unet", "down_blocks.2.downsamplers.0.conv.weight", "model.diffusion_model.input_blocks.9.0.op.weight"],
    [
      "unet",
      "mid_block.resnets.1.time_emb_proj.weight",
      "model.diffusion_model.middle_block.2.emb_layers.1.weight",
    ],
    ["unet", "up_blocks.0.upsamplers.0.conv.weight", "model.diffusion_model.output_blocks.2.1.conv.weight"],
    ["unet", "up_blocks.1.upsamplers.0.conv.weight", "model.diffusion_model.output_blocks.5.2.conv.weight"],
    [
      "unet",
      "up_blocks.3.attentions.2.proj_out.bias",
      "model.diffusion_model.output_blocks.11.1.proj_out.bias",
    ],
    ["unet", "time_embedding.linear_2.weight", "model.diffusion_model.time_embed.2.weight"],
    ["unet", "conv_norm_out.weight", "model.diffusion_model.out.0.weight"],
    [
      "vae",
      "decoder.up_blocks.0.resnets.2.conv1.weight",
      "first_stage_model.decoder.up.3.block.2.conv1.weight",
    ],
    [
      "vae",
      "decoder.up_blocks.2.resnets.0.conv_shortcut.weight",
      "first_stage_model.decoder.up.1.block.0.nin_shortcut.weight",
    ],
    [
      "vae",
      "encoder.mid_block.attentions.0.to_out.0.weight",
      "first_stage_model.encoder.mid.attn_1.proj_out.weight",
    ],
    ["vae", "encoder.mid_block.resnets.1.norm2.bias", "first_stage_model.encoder.mid.block_2.norm2.bias"],
    [
      "text_encoder",
      "text_model.encoder.layers.11.mlp.fc2.bias",
      "cond_stage_model.transformer.text_model.encoder.layers.11.mlp.fc2.bias",
    ],
  ] as const)("SD 1.5 %s %s", (component, canonical, original) => {
    expect(sd15(component, canonical)).toEqual({ name: original, rows: null });
  });

  test.each([
    ["text_model.embeddings.position_embedding.weight", "positional_embedding", null],
    ["text_model.final_layer_norm.bias", "ln_final.bias", null],
    ["text_model.encoder.layers.22.mlp.fc1.weight", "transformer.resblocks.22.mlp.c_fc.weight", null],
    [
      "text_model.encoder.layers.3.self_attn.k_proj.weight",
      "transformer.resblocks.3.attn.in_proj_weight",
      { index: 1, count: 3 },
    ],
    [
      "text_model.encoder.layers.3.self_attn.v_proj.bias",
      "transformer.resblocks.3.attn.in_proj_bias",
      { index: 2, count: 3 },
    ],
  ])("SD 2.1 text encoder %s", (canonical, original, rows) => {
    expect(sd21("text_encoder", canonical)).toEqual({ name: `cond_stage_model.model.${original}`, rows });
  });

  test("a name that the model lacks is a defect of the caller", () => {
    expect(() => sd15("unet", "down_blocks.3.attentions.0.proj_in.weight")).toThrow(/internal/);
  });

  test("every tensor of a file has one canonical name, or three where rows are shared", () => {
    for (const configs of [SD15, SD21]) {
      const canonical = [
        ...[...unetWeightShapes(configs.unet).keys()].map((name) => ["unet", name] as const),
        ...[...clipWeightShapes(configs.textEncoder).keys()].map((name) => ["text_encoder", name] as const),
        ...[...vaeWeightShapes(configs.vae).keys()].map((name) => ["vae", name] as const),
      ];
      const original = toOriginalName(configs);
      const places = canonical.map(([component, name]) => original(component, name));
      expect(new Set(places.map(({ name, rows }) => `${name} ${rows?.index}`)).size).toBe(canonical.length);
      expect(new Set(places.map(({ name }) => name))).toEqual(new Set(originalWeightShapes(configs).keys()));
    }
  });
});
