/** Everything that is not a Stable Diffusion 1.x or 2.x checkpoint, or not a whole one, is refused by name. */
import { mkdir, mkdtemp, open, rm, writeFile } from "node:fs/promises";
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
import { renameTensors, SD1_TINY, SD2_TINY } from "../../../test/helpers/tiny-checkpoints.js";
import { DyloraError, type ErrorCode } from "../../errors.js";
import { clipWeightShapes, unetWeightShapes, vaeWeightShapes } from "../weight-shapes.js";
import { type OpenCheckpointOptions, openCheckpoint, originalWeightShapes } from "./index.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "dylora-refusals-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

let count = 0;
const newPath = (suffix = "") => join(folder, `${count++}${suffix}`);

async function refusal(path: string, options?: OpenCheckpointOptions): Promise<DyloraError> {
  const error = await openCheckpoint(path, options).then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(DyloraError);
  const refused = error as DyloraError;
  expect(refused.note, "the way out").toBeTruthy();
  return refused;
}

async function expectRefused(
  path: string,
  message: RegExp,
  code: ErrorCode = "E_INCOMPATIBLE",
): Promise<void> {
  const error = await refusal(path);
  expect(error.message).toMatch(message);
  expect(error.message).toContain(path);
  expect(error.code).toBe(code);
}

type Tensors = Map<string, SparseTensor>;

async function writeSingle(change: (tensors: Tensors) => void, configs = SD1_TINY): Promise<string> {
  const tensors = sparseTensors(originalWeightShapes(configs));
  change(tensors);
  return writeSparseSafetensors(newPath(".safetensors"), tensors);
}

const UNET = "model.diffusion_model";

describe("pickles", () => {
  const ZIP = Buffer.from("PK\x03\x04 archive/data.pkl");
  const PICKLE = Buffer.from([0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20]);

  test.each([
    ["a zip archive", "model.ckpt", ZIP],
    ["a zip archive that calls itself safetensors", "model.safetensors", ZIP],
    ["a plain pickle", "model.pt", PICKLE],
    ["a plain pickle that calls itself safetensors", "old.safetensors", PICKLE],
    ["an unknown file with a pickle's name", "model.bin", Buffer.from("anything")],
  ])("%s is refused with the reason and the way out", async (_, name, bytes) => {
    const path = join(newPath(), name);
    await mkdir(join(path, ".."));
    await writeFile(path, bytes);
    await expectRefused(path, /can run any code/);
    expect((await refusal(path)).note).toMatch(/save_file.*\.safetensors/);
  });

  test("a header length that begins like a pickle is no pickle", async () => {
    const tensors = sparseTensors(originalWeightShapes(SD1_TINY));
    // 0x80 0x02 …: pad the header with a metadata value until its length ends in 0x0280.
    let padding = 0;
    for (;;) {
      const path = await writeSparseSafetensors(newPath(".safetensors"), tensors, {
        pad: " ".repeat(padding),
      });
      const start = await readStart(path);
      const short = (0x0280 - (start[0]! + 256 * start[1]!) + 65536) % 65536;
      if (short === 0) {
        expect([...start]).toEqual([0x80, 0x02]);
        await expect(openCheckpoint(path)).resolves.toMatchObject({ version: "sd1" });
        return;
      }
      padding += short;
    }
  });

  test("a diffusers folder with nothing but pickles", async () => {
    const path = await writeFolder();
    await rm(join(path, "unet", WEIGHTS));
    await writeFile(join(path, "unet", "diffusion_pytorch_model.bin"), ZIP);
    await expectRefused(path, /can run any code/);
  });
});

async function readStart(path: string): Promise<Uint8Array> {
  const file = await open(path);
  const { buffer } = await file.read(new Uint8Array(2), 0, 2, 0);
  await file.close();
  return buffer;
}

describe("files that are something else", () => {
  test.each([
    ["adapter", "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight"],
    ["adapter", "unet.mid_block.attentions.0.proj_in.lora_A.weight"],
    ["adapter", "base_model.model.mid_block.attentions.0.proj_in.lora_B.weight"],
    ["adapter", "unet.mid_block.attentions.0.processor.to_q_lora.down.weight"],
    ["adapter", "lora_unet_mid_block_attentions_0_proj_in.hada_w1_a"],
    ["adapter", "lora_unet_mid_block_attentions_0_proj_in.lokr_w2"],
    ["SDXL checkpoint", "conditioner.embedders.1.model.ln_final.weight"],
    ["SDXL refiner", "conditioner.embedders.0.model.ln_final.weight"],
    ["Stable Diffusion 3", "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight"],
    ["Flux", "double_blocks.0.img_attn.qkv.weight"],
    ["ControlNet", "control_model.zero_convs.0.0.weight"],
    ["class or image embedding", "model.diffusion_model.label_emb.0.0.weight"],
    ["U-Net alone, with diffusers names", "down_blocks.0.resnets.0.conv1.weight"],
    ["VAE alone", "first_stage_model.encoder.conv_in.weight"],
    ["textual inversion", "emb_params"],
    ["not a Stable Diffusion checkpoint", "wonder.weight"],
  ])("%s: %s", async (what, name) => {
    const path = await writeSparseSafetensors(newPath(".safetensors"), new Map([[name, { shape: [4, 4] }]]));
    await expectRefused(path, new RegExp(what));
  });

  test("a file without tensors", async () => {
    await expectRefused(
      await writeSparseSafetensors(newPath(".safetensors"), new Map()),
      /it has no tensors/,
    );
  });

  test.each([
    [9, /inpainting/],
    [8, /InstructPix2Pix/],
    [5, /depth-to-image/],
    [6, /6 input and 4 output channels/],
  ])("a U-Net with %i input channels", async (channels, message) => {
    const path = await writeSingle((tensors) => {
      tensors.set(`${UNET}.input_blocks.0.0.weight`, { shape: [32, channels, 3, 3] });
    });
    await expectRefused(path, message);
  });

  test("a path that is not there", async () => {
    const error = await refusal(join(folder, "runwayml/stable-diffusion-v1-5"));
    expect(error.code).toBe("E_NOT_FOUND");
    expect(error.note).toMatch(/not downloaded/);
  });

  test("a truncated file is damaged, not incompatible", async () => {
    const path = newPath(".safetensors");
    await writeFile(path, Buffer.from([200, 1, 0, 0, 0, 0, 0, 0, 0x7b]));
    expect((await refusal(path)).code).toBe("E_FORMAT");
  });
});

describe("checkpoints with something wrong in them", () => {
  test("missing tensors are counted and named", async () => {
    const path = await writeSingle((tensors) => {
      tensors.delete(`${UNET}.input_blocks.1.0.out_layers.3.bias`);
      tensors.delete(`${UNET}.middle_block.2.in_layers.0.weight`);
    });
    await expectRefused(
      path,
      /2 of the \d+ tensors of the U-Net are missing: down_blocks\.0\.resnets\.0\.conv2\.bias, mid_block\.resnets\.1\.norm1\.weight/,
    );
  });

  test("missing text encoder", async () => {
    const path = await writeSingle((tensors) => {
      for (const name of [...tensors.keys()]) if (name.startsWith("cond_stage_model.")) tensors.delete(name);
    });
    await expectRefused(path, /the text encoder is missing/);
  });

  test("a tensor of another shape is named with both names and both shapes", async () => {
    const path = await writeSingle((tensors) => {
      tensors.set(`${UNET}.output_blocks.3.1.transformer_blocks.0.ff.net.2.weight`, { shape: [32, 64] });
    });
    await expectRefused(
      path,
      /output_blocks\.3\.1\.transformer_blocks\.0\.ff\.net\.2\.weight \(up_blocks\.1\.attentions\.1\..*\) .* has shape \[32, 64\]; expected \[32, 128\]/,
    );
  });

  test.each(["F64", "F8_E4M3", "I64"] as const)("weights stored as %s", async (dtype) => {
    const path = await writeSingle((tensors) => {
      const name = `${UNET}.out.2.weight`;
      tensors.set(name, { ...tensors.get(name)!, dtype });
    });
    await expectRefused(
      path,
      new RegExp(`out\\.2\\.weight is stored as ${dtype}; expected F32, F16 or BF16`),
    );
  });

  test("extra modules inside the U-Net", async () => {
    const path = await writeSingle((tensors) => {
      tensors.set(`${UNET}.input_blocks.1.1.transformer_blocks.0.fuser.linear.weight`, { shape: [4, 4] });
    });
    await expectRefused(path, /1 tensors that .* do not have: .*fuser\.linear\.weight/);
  });

  test("resnets of one level that differ", async () => {
    const configs = { ...SD1_TINY, unet: { ...SD1_TINY.unet, layersPerBlock: [2, 1] } };
    const path = await writeSingle((tensors) => {
      tensors.set(`${UNET}.input_blocks.2.0.in_layers.2.weight`, { shape: [64, 32, 3, 3] });
    }, configs);
    await expectRefused(path, /input_blocks\.2 has width 64 .* expected 32/);
  });

  test("a U-Net without attention", async () => {
    const path = await writeSingle((tensors) => {
      for (const name of [...tensors.keys()]) if (name.includes("transformer_blocks")) tensors.delete(name);
    });
    await expectRefused(path, /no attention/);
  });

  test("widths that no head count divides", async () => {
    const path = await writeSingle((tensors) => {
      tensors.set(`${UNET}.input_blocks.1.0.in_layers.2.weight`, { shape: [33, 32, 3, 3] });
    });
    await expectRefused(path, /width 33, which does not split into 32 norm groups/);
  });

  test("U-Net and text encoder of different models", async () => {
    const textEncoder = { ...SD1_TINY.textEncoder, hiddenSize: 128, intermediateSize: 512 };
    await expectRefused(
      await writeSingle(() => {}, { ...SD1_TINY, textEncoder }),
      /text embeddings of width 64, the text encoder makes 128/,
    );
  });
});

describe("options that contradict the file", () => {
  test.each([
    [SD1_TINY, true, /1\.x checkpoint, but v2 is true/],
    [SD2_TINY, false, /2\.x checkpoint, but v2 is false/],
  ])("v2", async (configs, v2, message) => {
    const path = await writeSingle(() => {}, configs);
    expect((await refusal(path, { v2 })).message).toMatch(message);
    await expect(openCheckpoint(path, { v2: !v2 })).resolves.toMatchObject({ version: configs.version });
  });
});

const WEIGHTS = "diffusion_pytorch_model.safetensors";

async function writeFolder(unetConfig: Record<string, unknown> = {}): Promise<string> {
  const path = newPath();
  const { unet, textEncoder, vae } = SD1_TINY;
  await writeJson(join(path, "unet"), "config.json", { ...diffusersUnetConfig(unet), ...unetConfig });
  await writeJson(join(path, "text_encoder"), "config.json", diffusersClipConfig(textEncoder));
  await writeJson(join(path, "vae"), "config.json", diffusersVaeConfig(vae));
  await writeSparseSafetensors(join(path, "unet", WEIGHTS), sparseTensors(unetWeightShapes(unet)));
  await writeSparseSafetensors(join(path, "vae", WEIGHTS), sparseTensors(vaeWeightShapes(vae)));
  const clip = sparseTensors(clipWeightShapes(textEncoder));
  await writeSparseSafetensors(join(path, "text_encoder", "model.safetensors"), clip);
  return path;
}

describe("diffusers folders", () => {
  test("the plain one opens", async () => {
    await expect(openCheckpoint(await writeFolder())).resolves.toMatchObject({ layout: "diffusers" });
  });

  test.each([
    ["addition_embed_type", "text_time", /an SDXL model/],
    ["time_cond_proj_dim", 256, /latent consistency model/],
    ["_class_name", "UNetMotionModel", /a UNetMotionModel/],
    ["mid_block_type", null, /mid_block_type is null; expected UNetMidBlock2DCrossAttn/],
    ["class_embed_type", "projection", /class_embed_type is "projection"; expected no value/],
    ["num_class_embeds", 1000, /num_class_embeds is 1000/],
    ["only_cross_attention", [true, false], /only_cross_attention is \[true,false\]; expected false/],
    ["act_fn", "gelu", /act_fn is "gelu"; expected silu/],
    ["block_out_channels", [32, -64], /block_out_channels is \[32,-64\]/],
    ["block_out_channels", undefined, /block_out_channels is nothing/],
    ["layers_per_block", [1, 1, 1], /layers_per_block is \[1,1,1\]; expected 2 numbers/],
    [
      "down_block_types",
      ["CrossAttnDownBlock2D", "AttnDownBlock2D"],
      /down_block_types is .*AttnDownBlock2D/,
    ],
    ["transformer_layers_per_block", [[1], [1]], /transformer_layers_per_block is \[\[1\],\[1\]\]/],
    ["norm_eps", "tiny", /norm_eps is "tiny"; expected a number above 0/],
    ["attention_head_dim", 7, /does not split into 7 attention heads/],
  ])("unet/config.json with %s %j", async (field, value, message) => {
    await expectRefused(await writeFolder({ [field]: value }), message);
  });

  test.each([
    [
      { block_out_channels: [32, 128] },
      /down_blocks\.1\..* has shape .*; expected .* from unet\/config\.json/,
    ],
    [{ cross_attention_dim: 96 }, /attn2\.to_k\.weight .* has shape \[32, 64\]; expected \[32, 96\]/],
    [{ use_linear_projection: true }, /proj_in\.weight .* has shape \[32, 32, 1, 1\]; expected \[32, 32\]/],
    [{ layers_per_block: 2 }, /tensors of the U-Net are missing: .*down_blocks\.0\.attentions\.1/],
    [
      { down_block_types: ["DownBlock2D", "DownBlock2D"] },
      /tensors that .* do not have: down_blocks\.0\.attentions\.0/,
    ],
  ])("a lie in unet/config.json: %j", async (lie, message) => {
    await expectRefused(await writeFolder(lie), message);
  });

  test.each([
    ["text_encoder", { hidden_size: 128 }, /expected \[100, 128\] from text_encoder\/config\.json/],
    ["text_encoder", { hidden_act: "relu" }, /hidden_act is "relu"; expected quick_gelu or gelu/],
    ["text_encoder", { model_type: "t5" }, /text encoder of type t5/],
    ["text_encoder", { num_hidden_layers: null }, /num_hidden_layers is null/],
    [
      "vae",
      { latent_channels: 16 },
      /conv_out\.weight of the VAE has shape .*; expected \[32, 64, 3, 3\] from vae\/config\.json/,
    ],
    ["vae", { use_quant_conv: false }, /use_quant_conv is false; expected true/],
    [
      "vae",
      { block_out_channels: [32] },
      /mid_block\..* of the VAE has shape \[64.*\]; expected \[32.*\] from vae\/config\.json/,
    ],
  ])("a lie in %s/config.json: %j", async (part, lie, message) => {
    const path = await writeFolder();
    const config =
      part === "vae" ? diffusersVaeConfig(SD1_TINY.vae) : diffusersClipConfig(SD1_TINY.textEncoder);
    await writeJson(join(path, part), "config.json", { ...config, ...lie });
    await expectRefused(path, message);
  });

  test.each([
    ["unet", /the U-Net is missing: expected the folder unet\//],
    ["text_encoder", /the text encoder is missing: expected the folder text_encoder\//],
    ["unet/config.json", /unet.config\.json: no such file/],
    [`unet/${WEIGHTS}`, /no weights: expected unet.diffusion_pytorch_model\.safetensors/],
    ["text_encoder/model.safetensors", /no weights: expected text_encoder.model\.safetensors/],
  ])("without %s", async (part, message) => {
    const path = await writeFolder();
    await rm(join(path, part), { recursive: true });
    expect((await refusal(path)).message).toMatch(message);
  });

  test("a config that is no JSON is a damaged file", async () => {
    const path = await writeFolder();
    await writeFile(join(path, "unet", "config.json"), "<html>");
    await expectRefused(path, /not valid JSON/, "E_FORMAT");
    await writeFile(join(path, "unet", "config.json"), "[]");
    await expectRefused(path, /expected a JSON object/, "E_FORMAT");
  });

  test.each([
    ["StableDiffusionXLPipeline", /SDXL/],
    ["StableDiffusion3Pipeline", /Stable Diffusion 3/],
    ["FluxPipeline", /Flux/],
  ])("%s in model_index.json", async (className, message) => {
    const path = await writeFolder();
    await writeJson(path, "model_index.json", { _class_name: className });
    await expectRefused(path, message);
  });

  test("a diffusion transformer", async () => {
    const path = newPath();
    await mkdir(join(path, "transformer"), { recursive: true });
    await expectRefused(path, /diffusion transformer/);
  });

  test("the cache folder of a repository names its snapshots", async () => {
    const path = newPath();
    await mkdir(join(path, "snapshots", "0123abcd"), { recursive: true });
    expect((await refusal(path)).note).toContain(join(path, "snapshots", "0123abcd"));
  });

  test("a folder of checkpoints names them", async () => {
    const path = newPath();
    await writeSparseSafetensors(join(path, "anime.safetensors"), new Map());
    expect((await refusal(path)).note).toContain("anime.safetensors");
  });

  test.each([
    [{ "conv_in.weight": "../../elsewhere.safetensors" }, /weight_map/],
    [
      { "conv_in.weight": "shard.safetensors", "absent.weight": "shard.safetensors" },
      /promises tensor absent\.weight/,
    ],
    [null, /weight_map is null; expected an object/],
  ])("an index that lies: %j", async (weightMap, message) => {
    const path = await writeFolder();
    await rm(join(path, "unet", WEIGHTS));
    await writeSparseSafetensors(
      join(path, "unet", "shard.safetensors"),
      sparseTensors(unetWeightShapes(SD1_TINY.unet)),
    );
    await writeJson(join(path, "unet"), `${WEIGHTS}.index.json`, { weight_map: weightMap });
    await expectRefused(path, message);
  });
});

test("a checkpoint whose U-Net has another prefix says which names were expected", async () => {
  const path = await writeSingle((tensors) =>
    renameTensors(tensors, (name) => name.replace(`${UNET}.`, "unet_of.")),
  );
  await expectRefused(path, /expected tensors named model\.diffusion_model\.\*/);
});
