/** The forms in which checkpoints of the same model are found in the wild. */
import { cp, mkdir, mkdtemp, rename, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  diffusersClipConfig,
  diffusersUnetConfig,
  diffusersVaeConfig,
  type SparseTensor,
  sparseTensors,
  writeJson,
  writeSparseSafetensors,
} from "../../../test/helpers/sparse-safetensors.js";
import { renameTensors, SD1_TINY as SD1, SD2_TINY as SD2 } from "../../../test/helpers/tiny-checkpoints.js";
import { SD15_TEXT, SD15_UNET, SD21_TEXT, SD21_UNET } from "../reference-configs.js";
import { clipWeightShapes, unetWeightShapes, vaeWeightShapes } from "../weight-shapes.js";
import { type CheckpointConfigs, openCheckpoint, openVae, originalWeightShapes } from "./index.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "dylora-variants-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

let count = 0;
const newPath = (suffix = "") => join(folder, `${count++}${suffix}`);

async function writeSingle(
  configs: CheckpointConfigs,
  change: (tensors: Map<string, SparseTensor>) => void = () => {},
  metadata?: Record<string, string>,
): Promise<string> {
  const tensors = sparseTensors(originalWeightShapes(configs));
  change(tensors);
  return writeSparseSafetensors(newPath(".safetensors"), tensors, metadata);
}

const WEIGHTS = "diffusion_pytorch_model.safetensors";

async function writeFolder({ unet, textEncoder }: CheckpointConfigs): Promise<string> {
  const path = newPath();
  await writeJson(join(path, "unet"), "config.json", diffusersUnetConfig(unet));
  await writeJson(join(path, "text_encoder"), "config.json", diffusersClipConfig(textEncoder));
  await writeSparseSafetensors(join(path, "unet", WEIGHTS), sparseTensors(unetWeightShapes(unet)));
  const clip = sparseTensors(clipWeightShapes(textEncoder));
  await writeSparseSafetensors(join(path, "text_encoder", "model.safetensors"), clip);
  return path;
}

describe("single file", () => {
  test("without text_model. in the text encoder's names", async () => {
    const path = await writeSingle(SD1, (tensors) =>
      renameTensors(tensors, (name) => name.replace("transformer.text_model.", "transformer.")),
    );
    expect((await openCheckpoint(path)).textEncoder.config).toEqual(SD1.textEncoder);
  });

  test("with everything that training left behind", async () => {
    const path = await writeSingle(SD1, (tensors) => {
      tensors.set("alphas_cumprod", { shape: [1000], dtype: "F64" });
      tensors.set("model_ema.decay", { shape: [] });
      tensors.set("model_ema.diffusion_modelinput_blocks00weight", { shape: [32, 4, 3, 3] });
      tensors.set("first_stage_model.loss.logvar", { shape: [] });
      const embeddings = "cond_stage_model.transformer.text_model.embeddings";
      tensors.set(`${embeddings}.position_ids`, { shape: [1, 77], dtype: "I64" });
    });
    const checkpoint = await openCheckpoint(path);
    expect(checkpoint.unet.weights.size).toBe(unetWeightShapes(SD1.unet).size);
    expect([...checkpoint.vae!.weights.keys()].some((name) => name.includes("loss"))).toBe(false);
  });

  test("without VAE", async () => {
    const path = await writeSingle(SD1, (tensors) => {
      for (const name of [...tensors.keys()]) if (name.startsWith("first_stage_model.")) tensors.delete(name);
    });
    expect((await openCheckpoint(path)).vae).toBeNull();
  });

  test("with mixed dtypes", async () => {
    const path = await writeSingle(SD1, (tensors) => {
      for (const [name, tensor] of tensors) {
        if (name.startsWith("first_stage_model.")) tensors.set(name, { ...tensor, dtype: "F32" });
        if (name.startsWith("cond_stage_model.")) tensors.set(name, { ...tensor, dtype: "BF16" });
      }
    });
    const { unet, textEncoder, vae } = await openCheckpoint(path);
    const dtypes = (part: typeof unet | typeof textEncoder | NonNullable<typeof vae>) =>
      new Set([...part.weights.values()].map(({ dtype }) => dtype));
    expect([unet, textEncoder, vae!].map(dtypes)).toEqual([
      new Set(["F16"]),
      new Set(["BF16"]),
      new Set(["F32"]),
    ]);
  });

  test("under a misleading name: the content decides", async () => {
    const path = await writeSingle(SD1);
    const renamed = newPath(".ckpt");
    await rename(path, renamed);
    expect((await openCheckpoint(renamed)).layout).toBe("single-file");
  });

  test("a complete OpenCLIP tower: the last block is not used, q k v are thirds of one tensor", async () => {
    const tower = { ...SD2, textEncoder: { ...SD2.textEncoder, layers: 4 } };
    const path = await writeSingle(tower, (tensors) => {
      tensors.set("cond_stage_model.model.text_projection", { shape: [64, 64] });
      tensors.set("cond_stage_model.model.logit_scale", { shape: [] });
    });
    const { textEncoder } = await openCheckpoint(path);
    expect(textEncoder.config).toEqual(SD2.textEncoder);
    const layer = "text_model.encoder.layers.1.self_attn";
    const [q, k, v] = ["q", "k", "v"].map((name) => textEncoder.weights.get(`${layer}.${name}_proj.weight`)!);
    expect(q!.shape).toEqual([64, 64]);
    expect([q!.sizeBytes, k!.sizeBytes, v!.sizeBytes]).toEqual([8192, 8192, 8192]);
    expect([k!.offsetBytes - q!.offsetBytes, v!.offsetBytes - k!.offsetBytes]).toEqual([8192, 8192]);
  });

  test("OpenCLIP ViT-H with its 24 blocks and nothing behind them, as pruning leaves it", async () => {
    const configs = {
      version: "sd2",
      unet: SD21_UNET,
      textEncoder: { ...SD21_TEXT, layers: 24 },
      vae: SD1.vae,
    } as const;
    expect((await openCheckpoint(await writeSingle(configs))).textEncoder.config).toEqual(SD21_TEXT);
  });

  test("an SD 2.x U-Net that was saved with 1x1 convolutions", async () => {
    const configs = { ...SD2, unet: { ...SD2.unet, useLinearProjection: false } };
    const checkpoint = await openCheckpoint(await writeSingle(configs));
    expect(checkpoint.version).toBe("sd2");
    expect(checkpoint.unet.config).toEqual(configs.unet);
  });
});

describe("diffusers folder", () => {
  test("fp16 variant, only where there is no plain file", async () => {
    const path = await writeFolder(SD1);
    await rename(join(path, "unet", WEIGHTS), join(path, "unet", "diffusion_pytorch_model.fp16.safetensors"));
    await cp(
      join(path, "text_encoder", "model.safetensors"),
      join(path, "text_encoder", "model.fp16.safetensors"),
    );
    const { unet, textEncoder } = await openCheckpoint(path);
    expect(unet.weights.get("conv_in.weight")?.filePath).toMatch(/model\.fp16\.safetensors$/);
    const embedding = textEncoder.weights.get("text_model.embeddings.token_embedding.weight");
    expect(embedding?.filePath).toMatch(/model\.safetensors$/);
    expect(embedding?.filePath).not.toMatch(/fp16/);
  });

  test("sharded weights", async () => {
    const path = await writeFolder(SD1);
    const shapes = [...unetWeightShapes(SD1.unet)];
    const half = Math.floor(shapes.length / 2);
    const shards = { "a.safetensors": shapes.slice(0, half), "b.safetensors": shapes.slice(half) };
    const weightMap: Record<string, string> = {};
    for (const [file, part] of Object.entries(shards)) {
      await writeSparseSafetensors(join(path, "unet", file), sparseTensors(part));
      for (const [name] of part) weightMap[name] = file;
    }
    await rm(join(path, "unet", WEIGHTS));
    await writeJson(join(path, "unet"), `${WEIGHTS}.index.json`, { weight_map: weightMap });
    const { weights } = (await openCheckpoint(path)).unet;
    expect(weights.get(shapes[0]![0])?.filePath).toMatch(/a\.safetensors$/);
    expect(weights.get(shapes.at(-1)![0])?.filePath).toMatch(/b\.safetensors$/);
    expect(weights.size).toBe(shapes.length);
  });

  test("links of the Hugging Face cache are resolved", async () => {
    const path = await writeFolder(SD1);
    const blob = newPath("-blob");
    await rename(join(path, "unet", WEIGHTS), blob);
    await symlink(blob, join(path, "unet", WEIGHTS));
    const filePath = (await openCheckpoint(path)).unet.weights.get("conv_in.weight")?.filePath;
    expect(filePath?.endsWith(blob.slice(folder.length))).toBe(true);
  });

  test("text encoder without the outer module's name", async () => {
    const path = await writeFolder(SD1);
    const tensors = sparseTensors(clipWeightShapes(SD1.textEncoder));
    renameTensors(tensors, (name) => name.replace("text_model.", ""));
    await writeSparseSafetensors(join(path, "text_encoder", "model.safetensors"), tensors);
    expect((await openCheckpoint(path)).textEncoder.config).toEqual(SD1.textEncoder);
  });

  test("one attention_head_dim means that many heads on every level", async () => {
    const path = await writeFolder(SD1);
    await writeJson(join(path, "unet"), "config.json", {
      ...diffusersUnetConfig(SD1.unet),
      attention_head_dim: 4,
    });
    expect((await openCheckpoint(path)).unet.config.headsPerLevel).toEqual([4, 4]);
  });

  test("the config of SD 1.5 as published, which leaves most fields out", async () => {
    const path = await writeFolder({ ...SD1, unet: SD15_UNET, textEncoder: SD15_TEXT });
    await writeJson(join(path, "unet"), "config.json", {
      _class_name: "UNet2DConditionModel",
      _diffusers_version: "0.6.0",
      act_fn: "silu",
      attention_head_dim: 8,
      block_out_channels: [320, 640, 1280, 1280],
      center_input_sample: false,
      cross_attention_dim: 768,
      down_block_types: [...new Array(3).fill("CrossAttnDownBlock2D"), "DownBlock2D"],
      downsample_padding: 1,
      flip_sin_to_cos: true,
      freq_shift: 0,
      in_channels: 4,
      layers_per_block: 2,
      mid_block_scale_factor: 1,
      norm_eps: 1e-5,
      norm_num_groups: 32,
      out_channels: 4,
      sample_size: 64,
      up_block_types: ["UpBlock2D", ...new Array(3).fill("CrossAttnUpBlock2D")],
    });
    expect((await openCheckpoint(path)).unet.config).toEqual(SD15_UNET);
  });

  test("tokenizer folder", async () => {
    const path = await writeFolder(SD1);
    await mkdir(join(path, "tokenizer"));
    expect((await openCheckpoint(path)).tokenizerDir).toBe(join(path, "tokenizer"));
  });
});

describe("prediction type", () => {
  const withScheduler = async (prediction: string) => {
    const path = await writeFolder(SD2);
    await writeJson(join(path, "scheduler"), "scheduler_config.json", { prediction_type: prediction });
    return path;
  };

  test("is epsilon where nobody says anything", async () => {
    expect(await openCheckpoint(await writeSingle(SD2))).toMatchObject({
      predictionType: "epsilon",
      predictionTypeSource: "default",
      baseModelVersion: "sd_v2",
    });
  });

  test("comes from the scheduler config", async () => {
    expect(await openCheckpoint(await withScheduler("v_prediction"))).toMatchObject({
      predictionType: "v_prediction",
      predictionTypeSource: "scheduler",
      baseModelVersion: "sd_v2_v",
    });
  });

  test("comes from the option where the file does not say", async () => {
    const path = await writeSingle(SD1);
    expect(await openCheckpoint(path, { vParameterization: true })).toMatchObject({
      predictionType: "v_prediction",
      predictionTypeSource: "option",
      baseModelVersion: "sd_v1_v",
    });
  });

  test("comes from modelspec metadata, unless the option says otherwise", async () => {
    const path = await writeSingle(SD2, () => {}, { "modelspec.prediction_type": "v" });
    expect(await openCheckpoint(path)).toMatchObject({
      predictionType: "v_prediction",
      predictionTypeSource: "metadata",
    });
    expect(await openCheckpoint(path, { vParameterization: false })).toMatchObject({
      predictionType: "epsilon",
      predictionTypeSource: "option",
    });
  });

  test("option and scheduler config must agree", async () => {
    const path = await withScheduler("epsilon");
    await expect(openCheckpoint(path, { vParameterization: true })).rejects.toThrow(
      /prediction_type epsilon/,
    );
    await expect(openCheckpoint(path, { vParameterization: false })).resolves.toMatchObject({
      predictionTypeSource: "scheduler",
    });
  });

  test("sample prediction is refused", async () => {
    await expect(openCheckpoint(await withScheduler("sample"))).rejects.toThrow(
      /prediction_type is "sample"/,
    );
  });
});

describe("a VAE of its own", () => {
  const original = () => {
    const shapes = [...originalWeightShapes(SD1)].filter(([name]) => name.startsWith("first_stage_model."));
    return sparseTensors(shapes);
  };
  const bare = () => {
    const tensors = original();
    renameTensors(tensors, (name) => name.replace("first_stage_model.", ""));
    return tensors;
  };
  const legacy = () => {
    const tensors = sparseTensors(vaeWeightShapes(SD1.vae));
    const names: [RegExp, string][] = [
      [/to_q/, "query"],
      [/to_k/, "key"],
      [/to_v/, "value"],
      [/to_out\.0/, "proj_attn"],
    ];
    renameTensors(tensors, (name) => names.reduce((result, [from, to]) => result.replace(from, to), name));
    return tensors;
  };
  const canonicalNames = [...vaeWeightShapes(SD1.vae).keys()];

  test.each([
    ["original names with prefix", original],
    ["original names", bare],
    ["diffusers names", () => sparseTensors(vaeWeightShapes(SD1.vae))],
    ["diffusers names before 0.12", legacy],
  ])("file with %s", async (_, tensors) => {
    const vae = await openVae(await writeSparseSafetensors(newPath(".safetensors"), tensors()));
    expect(vae.config).toEqual(SD1.vae);
    expect([...vae.weights.keys()]).toEqual(canonicalNames);
    expect(vae.weights.get("encoder.mid_block.attentions.0.to_q.weight")?.shape).toEqual([64, 64]);
  });

  test("folder, and the vae/ of a whole model", async () => {
    const path = newPath();
    await writeJson(join(path, "vae"), "config.json", {
      ...diffusersVaeConfig(SD1.vae),
      scaling_factor: 0.5,
    });
    await writeSparseSafetensors(join(path, "vae", WEIGHTS), legacy());
    expect((await openVae(path)).config.scalingFactor).toBe(0.5);
    expect((await openVae(join(path, "vae"))).config.scalingFactor).toBe(0.5);
  });

  test("takes the place of the checkpoint's own", async () => {
    const vaePath = await writeSparseSafetensors(newPath(".safetensors"), bare());
    const { vae } = await openCheckpoint(await writeSingle(SD1), { vaePath });
    expect(vae?.weights.get("quant_conv.weight")?.filePath.endsWith(vaePath.slice(folder.length))).toBe(true);
  });

  test("must make latents that the U-Net takes", async () => {
    const sdxl = { ...SD1.vae, latentChannels: 16 };
    const vaePath = await writeSparseSafetensors(
      newPath(".safetensors"),
      sparseTensors(vaeWeightShapes(sdxl)),
    );
    const opening = openCheckpoint(await writeSingle(SD1), { vaePath });
    await expect(opening).rejects.toThrow(/latents of 4 channels, the VAE .* makes 16/);
  });

  test("a file without VAE is refused", async () => {
    const path = await writeSparseSafetensors(newPath(".safetensors"), new Map([["other", { shape: [1] }]]));
    await expect(openVae(path)).rejects.toThrow(/no VAE in it/);
    await expect(openVae(join(folder, "absent"))).rejects.toMatchObject({ code: "E_NOT_FOUND" });
  });
});
