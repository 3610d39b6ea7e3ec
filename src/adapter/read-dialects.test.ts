import { mkdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { randomValues } from "../../test/helpers/random-adapter.js";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import { type TensorToWrite, writeTensors } from "../../test/helpers/write-tensors.js";
import { encodeFromFloat32 } from "../safetensors/index.js";
import { diffusersDialect } from "./dialects/diffusers.js";
import { peftDialect } from "./dialects/peft.js";
import { readFactors } from "./factors.js";
import { openAdapter } from "./open-adapter.js";

const ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn1";
const KOHYA_ATTENTION = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1";
const TEXT = "text_model.encoder.layers.0.self_attn";

/** Both factors of a Linear: `lora_A` and `lora_B` for `AB`. */
function pair(prefix: string, [down, up]: readonly [string, string], rank = 4, width = 6): TensorToWrite[] {
  return [
    { name: `${prefix}${down}.weight`, shape: [rank, width] },
    { name: `${prefix}${up}.weight`, shape: [width + 1, rank] },
  ];
}

const AB = [".lora_A", ".lora_B"] as const;
const DOWN_UP = [".lora.down", ".lora.up"] as const;
const LINEAR_LAYER = [".lora_linear_layer.down", ".lora_linear_layer.up"] as const;
const OLDEST = ["_lora.down", "_lora.up"] as const;

describe("diffusers: names of every age", () => {
  it.each<[age: string, tensors: TensorToWrite[], names: string[]]>([
    [
      "today",
      [...pair(`unet.${ATTENTION}.to_q`, AB), ...pair(`text_encoder.${TEXT}.q_proj`, AB)],
      ["lora_te_text_model_encoder_layers_0_self_attn_q_proj", `${KOHYA_ATTENTION}_to_q`],
    ],
    [
      "before PEFT",
      [
        ...pair(`unet.${ATTENTION}.to_out.0`, DOWN_UP),
        ...pair(`text_encoder.${TEXT}.out_proj`, LINEAR_LAYER),
        ...pair(`text_encoder.text_model.encoder.layers.0.mlp.fc1`, LINEAR_LAYER),
      ],
      [
        "lora_te_text_model_encoder_layers_0_mlp_fc1",
        "lora_te_text_model_encoder_layers_0_self_attn_out_proj",
        `${KOHYA_ATTENTION}_to_out_0`,
      ],
    ],
    [
      "the oldest",
      ["to_q", "to_k", "to_v", "to_out"].flatMap((name) => pair(`${ATTENTION}.processor.${name}`, OLDEST)),
      ["to_k", "to_out_0", "to_q", "to_v"].map((name) => `${KOHYA_ATTENTION}_${name}`),
    ],
    [
      "the oldest, with components",
      [...pair(`unet.${ATTENTION}.processor.to_out`, OLDEST), ...pair(`text_encoder.${TEXT}.to_out`, OLDEST)],
      ["lora_te_text_model_encoder_layers_0_self_attn_out_proj", `${KOHYA_ATTENTION}_to_out_0`],
    ],
    [
      "saved from the U-Net alone",
      [...pair(`${ATTENTION}.to_q`, AB), ...pair("conv_in", AB)],
      ["lora_unet_conv_in", `${KOHYA_ATTENTION}_to_q`],
    ],
    [
      "with the adapter's name",
      pair(`unet.${ATTENTION}.to_q`, [".lora_A.default_0", ".lora_B.default_0"]),
      [`${KOHYA_ATTENTION}_to_q`],
    ],
  ])("%s", async (_, tensors, names) => {
    const path = join(await tempFolder(), "lora.safetensors");
    await writeTensors(path, tensors);
    await using adapter = await openAdapter(path);
    expect(adapter.dialect).toBe("diffusers");
    expect(adapter.modules.map(({ name }) => name).sort()).toEqual(names);
    // Without metadata alpha is the rank.
    expect(adapter.modules.every(({ rank, alpha }) => rank === 4 && alpha === 4)).toBe(true);
  });

  it("tells the factors apart, and reads their numbers", async () => {
    const path = join(await tempFolder(), "lora.safetensors");
    await writeTensors(path, pair(`${ATTENTION}.processor.to_v`, OLDEST), { seed: 3 });
    await using adapter = await openAdapter(path);
    const [module] = adapter.modules;
    expect(module).toMatchObject({
      component: "unet",
      kind: "linear",
      inFeatures: 6,
      outFeatures: 7,
      alphaTensor: null,
    });
    const { down } = await readFactors(adapter.file, module!);
    const expected = encodeFromFloat32(randomValues(24, 3000), "F16");
    expect(encodeFromFloat32(down, "F16")).toEqual(expected);
  });

  it.each([
    "transformer.single_blocks.0.to_q.lora_A.weight",
    "unet.lora_A.weight",
    "down_blocks.0.to_q.weight",
    "lora_unet_down_blocks_0.lora_down.weight",
    "base_model.model.conv_in.lora_A.weight",
  ])("does not know %s", (name) => expect(diffusersDialect.roleOf(name)).toBeNull());

  it.each([
    ["unet.conv_in.lora_magnitude_vector", "dora"],
    ["text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_B.bias", "bias"],
  ])("%s is foreign: %s", (name, method) =>
    expect(diffusersDialect.roleOf(name)).toMatchObject({ part: "foreign", method }),
  );

  it("refuses a module twice", async () => {
    const path = join(await tempFolder(), "lora.safetensors");
    await writeTensors(path, [
      ...pair(`unet.${ATTENTION}.to_q`, AB),
      ...pair(`unet.${ATTENTION}.to_q`, DOWN_UP),
    ]);
    await expect(openAdapter(path)).rejects.toMatchObject({
      code: "E_FORMAT",
      message: expect.stringContaining("two down tensors"),
    });
  });
});

describe("diffusers: alpha in the metadata", () => {
  const tensors = [
    ...pair(`unet.${ATTENTION}.to_q`, AB),
    ...pair(`unet.${ATTENTION}.to_k`, AB, 2),
    ...pair(`text_encoder.${TEXT}.q_proj`, AB),
  ];
  const open = async (fields: object) => {
    const path = join(await tempFolder(), "lora.safetensors");
    await writeTensors(path, tensors, {
      metadata: { format: "pt", lora_adapter_metadata: JSON.stringify(fields) },
    });
    return openAdapter(path);
  };
  const alphas = (modules: readonly { name: string; alpha: number }[]) =>
    Object.fromEntries(modules.map(({ name, alpha }) => [name.slice(-6), alpha]));

  it("by component and module; alpha is the rank where it says nothing", async () => {
    await using adapter = await open({
      "unet.r": 4,
      "unet.lora_alpha": 1.5,
      "unet.rank_pattern": { [`^${ATTENTION}.to_k`]: 2 },
      "unet.alpha_pattern": { to_k: 8 },
      "unet.use_dora": false,
    });
    expect(alphas(adapter.modules)).toEqual({ "1_to_q": 1.5, "1_to_k": 8, q_proj: 4 });
  });

  it("rank-stabilized", async () => {
    await using adapter = await open({
      "unet.r": 4,
      "unet.lora_alpha": 3,
      "unet.rank_pattern": { to_k: 2 },
      "unet.use_rslora": true,
    });
    const scales = adapter.modules.map(({ alpha, rank }) => alpha / rank).sort();
    expect(scales).toEqual([1, 3 / 2, (3 * Math.sqrt(2)) / 2].sort());
  });

  it("refuses ranks that are not the tensors'", async () => {
    await expect(open({ "unet.r": 4 })).rejects.toMatchObject({
      code: "E_FORMAT",
      message: expect.stringContaining("to_k has rank 2, and its configuration says 4"),
    });
  });
});

describe("PEFT", () => {
  const UNET = pair(`base_model.model.${ATTENTION}.to_q`, AB);
  const TEXT_MODULE = pair(`base_model.model.${TEXT}.q_proj`, AB);
  const CONFIG = JSON.stringify({
    peft_type: "LORA",
    r: 4,
    lora_alpha: 2,
    target_modules: ["to_q", "q_proj"],
  });

  async function peftFolder(
    parts: Readonly<Record<string, readonly TensorToWrite[]>>,
    config = CONFIG,
  ): Promise<string> {
    const root = await tempFolder();
    for (const [folder, tensors] of Object.entries(parts)) {
      await mkdir(join(root, folder), { recursive: true });
      await writeTensors(join(root, folder, "adapter_model.safetensors"), tensors, {
        metadata: { format: "pt" },
      });
      if (config !== "") await writeFile(join(root, folder, "adapter_config.json"), config);
    }
    return root;
  }

  it("a folder, or the file in it", async () => {
    const folder = await peftFolder({ "": UNET });
    for (const path of [folder, join(folder, "adapter_model.safetensors")]) {
      await using adapter = await openAdapter(path);
      expect(adapter).toMatchObject({ dialect: "peft", path, metadata: { format: "pt" }, maxRank: 4 });
      expect(adapter.modules).toMatchObject([
        { name: `${KOHYA_ATTENTION}_to_q`, component: "unet", rank: 4, alpha: 2 },
      ]);
      expect(adapter.parts).toMatchObject([{ folder: "", config: { text: CONFIG } }]);
    }
  });

  it("a folder for each component, read as one adapter", async () => {
    const unetModule = pair("base_model.model.mid_block.attentions.0.proj_in", AB);
    const parts = { text_encoder_2: TEXT_MODULE, text_encoder: TEXT_MODULE, unet: unetModule };
    await using adapter = await openAdapter(await peftFolder(parts));
    // Two text encoders: SDXL's names.
    expect(adapter.modules.map(({ name, component }) => [component, name])).toEqual([
      ["unet", "lora_unet_middle_block_1_proj_in"],
      ["text_encoder", "lora_te1_text_model_encoder_layers_0_self_attn_q_proj"],
      ["text_encoder_2", "lora_te2_text_model_encoder_layers_0_self_attn_q_proj"],
    ]);
    expect(adapter.parts.map((part) => part.folder)).toEqual(["unet", "text_encoder", "text_encoder_2"]);
    const [unet, first, second] = adapter.modules;
    const { down } = await readFactors(adapter.file, unet!);
    expect(down).toHaveLength(24);
    expect(await adapter.file.readRange(first!.down.name, 4, 8)).toEqual(
      (await adapter.file.read(second!.down.name)).slice(4, 8),
    );
    expect(() => adapter.file.info("unet/nothing")).toThrow(
      expect.objectContaining({ code: "E_INCOMPATIBLE" }),
    );
  });

  it.each([
    ["its width", 1280, "", "text_encoder_2"],
    ["a smaller width", 768, "", "text_encoder"],
    ["its folder", 6, "text_encoder_2", "text_encoder_2"],
    ["another folder", 1280, "text_encoder", "text_encoder"],
  ])("a text encoder alone is known by %s", async (_, width, folder, component) => {
    const root = await peftFolder({ [folder]: pair(`base_model.model.${TEXT}.q_proj`, AB, 4, width) });
    await using adapter = await openAdapter(join(root, folder));
    expect(adapter.modules).toMatchObject([{ component }]);
  });

  it("names with the adapter's name, and DoRA", async () => {
    const named = pair(`base_model.model.${ATTENTION}.to_q`, [".lora_A.default", ".lora_B.default"]);
    await using adapter = await openAdapter(await peftFolder({ "": named }));
    expect(adapter.modules).toHaveLength(1);
    expect(peftDialect.roleOf(`base_model.model.${ATTENTION}.to_q.lora_magnitude_vector`)).toMatchObject({
      method: "dora",
    });
    expect(peftDialect.roleOf("base_model.model.classifier.weight")).toBeNull();
    const dora = [...UNET, { name: `base_model.model.${ATTENTION}.to_q.lora_magnitude_vector`, shape: [7] }];
    const folder = await peftFolder({ "": dora });
    await expect(openAdapter(folder)).rejects.toMatchObject({
      code: "E_INCOMPATIBLE",
      message: expect.stringContaining("DoRA"),
    });
    await using kept = await openAdapter(folder, { foreign: "keep" });
    expect(kept.foreignModules).toMatchObject([{ methods: ["dora"], tensors: { length: 3 } }]);
  });

  it.each<[what: string, config: string, code: string, message: string]>([
    ["no configuration", "", "E_NOT_FOUND", "there is no adapter_config.json beside it"],
    ["one that is no JSON", "{", "E_FORMAT", "it is no JSON"],
    ["one of another method", '{"peft_type": "LOHA"}', "E_INCOMPATIBLE", 'no LoRA but "LOHA"'],
    ["one with another rank", '{"r": 8}', "E_FORMAT", "rank 4, and its configuration says 8"],
    ["one with a list for a rank", '{"r": [4, 192]}', "E_FORMAT", "r is a list instead of a number"],
  ])("refuses %s", async (_, config, code, message) => {
    const folder = await peftFolder({ "": UNET }, config);
    await expect(openAdapter(folder)).rejects.toMatchObject({
      code,
      message: expect.stringContaining(message),
    });
  });

  it("a folder without an adapter", async () => {
    const empty = await tempFolder({ "unet/notes.txt": "" });
    await expect(openAdapter(empty)).rejects.toMatchObject({
      code: "E_NOT_FOUND",
      note: expect.stringContaining("PEFT or diffusers"),
    });
    const pickle = await tempFolder({ "adapter_model.bin": "", "adapter_config.json": "{}" });
    await expect(openAdapter(pickle)).rejects.toMatchObject({
      code: "E_NOT_FOUND",
      note: expect.stringContaining("pickle"),
    });
  });

  it("a folder of diffusers", async () => {
    const folder = await tempFolder();
    await writeTensors(join(folder, "x"), pair("unet.conv_in", AB));
    await rename(join(folder, "x"), join(folder, "pytorch_lora_weights.safetensors"));
    await using adapter = await openAdapter(folder);
    expect(adapter).toMatchObject({
      dialect: "diffusers",
      path: folder,
      modules: [{ name: "lora_unet_conv_in" }],
    });
  });
});

describe("SDXL", () => {
  it("gets kohya's names of SDXL where width, structure, second text encoder or metadata tell", async () => {
    const query = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q";
    const sdxlName = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q";
    const flatName = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q";
    const nameOf = async (more: readonly TensorToWrite[], metadata: Record<string, string> | null = null) => {
      const path = join(await tempFolder(), "lora.safetensors");
      await writeTensors(path, [...pair(query, AB), ...more], { metadata });
      await using adapter = await openAdapter(path);
      return adapter.modules.find(({ down }) => down.name.startsWith(query))?.name;
    };
    const context = (width: number) =>
      pair("unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k", AB, 4, width);
    expect(await nameOf([])).toBe(flatName);
    expect(await nameOf(context(768))).toBe(flatName);
    expect(await nameOf(context(2048))).toBe(sdxlName);
    expect(await nameOf(pair("unet.down_blocks.1.attentions.0.transformer_blocks.1.attn1.to_q", AB))).toBe(
      sdxlName,
    );
    expect(await nameOf(pair("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", AB))).toBe(
      flatName,
    );
    expect(await nameOf(pair(`text_encoder_2.${TEXT}.q_proj`, AB))).toBe(sdxlName);
    expect(await nameOf([], { "modelspec.architecture": "stable-diffusion-xl-v1-base/lora" })).toBe(sdxlName);
    expect(await nameOf(context(768), { ss_base_model_version: "sdxl_base_v1-0" })).toBe(flatName);
  });

  it("modules of other models keep the names that they have", async () => {
    const path = join(await tempFolder(), "lora.safetensors");
    await writeTensors(path, [...pair("unet.conv_in", AB), ...pair("unet.add_k_proj", AB)]);
    await using adapter = await openAdapter(path);
    expect(adapter.modules.map(({ name }) => name)).toEqual(["unet.add_k_proj", "lora_unet_conv_in"]);
  });
});
