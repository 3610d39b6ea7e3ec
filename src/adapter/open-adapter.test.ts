import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { everyKindOfModule, sd15Modules, writeRandomAdapter } from "../../test/helpers/random-adapter.js";
import { type Dtype, encodeFromFloat32, tensorSize, writeSafetensors } from "../safetensors/index.js";
import { parameterCount } from "./module.js";
import { openAdapter } from "./open-adapter.js";

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "dylora-adapter-"));
  path = join(folder, "lora.safetensors");
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** Writes zeros under the given names: `[name, shape]` or `[name, shape, dtype]`. */
async function writeTensors(
  tensors: [string, number[], Dtype?][],
  metadata: Record<string, string> | null = null,
) {
  const sources = tensors.map(([name, shape, dtype = "F16"]) => {
    const size = tensorSize(dtype, shape);
    return { name, dtype, shape, data: () => new Uint8Array(size.ok ? size.sizeBytes : 0) };
  });
  await writeSafetensors(path, sources, { metadata, overwrite: true });
}

/** One well-formed module. */
function plainModule(name: string): [string, number[], Dtype?][] {
  return [
    [`${name}.lora_down.weight`, [4, 8]],
    [`${name}.lora_up.weight`, [6, 4]],
    [`${name}.alpha`, []],
  ];
}

describe("kohya adapters", () => {
  it("of every kind of module", async () => {
    const expected = everyKindOfModule(8, 4);
    await writeRandomAdapter(path, {
      modules: expected,
      alpha: 3,
      metadata: { ss_network_module: "networks.lora" },
    });
    await using adapter = await openAdapter(path);
    const byName = new Map(adapter.modules.map((module) => [module.name, module]));
    expect([...byName.keys()].sort()).toEqual(expected.map(({ name }) => name).sort());
    for (const { name, kind, rank, inFeatures, outFeatures } of expected) {
      expect(byName.get(name)).toMatchObject({
        kind,
        rank,
        inFeatures,
        outFeatures,
        alpha: 3,
        component: name.startsWith("lora_te") ? "text_encoder" : "unet",
        alphaTensor: { shape: [], dtype: "F16" },
      });
    }
    expect(adapter).toMatchObject({
      path,
      dialect: "kohya",
      maxRank: 8,
      metadata: { ss_network_module: "networks.lora" },
      foreignModules: [],
      unknownTensors: [],
      dylora: { isDylora: false },
    });
  });

  it("of SD 1.5 as sd-scripts trains it: 192 + 72 modules", async () => {
    await writeRandomAdapter(path, { modules: sd15Modules(1) });
    await using adapter = await openAdapter(path);
    const parameters = (component: string) =>
      adapter.modules.filter((m) => m.component === component).reduce((sum, m) => sum + parameterCount(m), 0);
    expect(adapter.modules.length).toBe(264);
    // ../shared/docs/formats.md 3.1, counted from sd-scripts' own classes.
    expect([parameters("unet"), parameters("text_encoder")]).toEqual([423_936, 165_888]);
  });

  it("without alpha: alpha is the rank", async () => {
    await writeRandomAdapter(path, { alpha: null });
    await using adapter = await openAdapter(path);
    expect(
      adapter.modules.every(({ alpha, rank, alphaTensor }) => alpha === rank && alphaTensor === null),
    ).toBe(true);
    expect(adapter.metadata).toEqual({});
  });

  it.each(["F64", "F32", "F16", "BF16", "I64"] as const)("with alpha as %s", async (alphaDtype) => {
    await writeRandomAdapter(path, { alphaDtype, alpha: 6 });
    await using adapter = await openAdapter(path);
    expect(adapter.modules.map(({ alpha }) => alpha)).toEqual(adapter.modules.map(() => 6));
  });

  it("with alpha in a list of one, and up factors of convolutions in two dimensions (LyCORIS)", async () => {
    const name = "lora_unet_mid_block_resnets_0_conv1";
    await writeTensors([
      [`${name}.lora_down.weight`, [4, 8, 3, 3]],
      [`${name}.lora_up.weight`, [6, 4]],
      [`${name}.alpha`, [1]],
    ]);
    await using adapter = await openAdapter(path);
    expect(adapter.modules).toMatchObject([
      { name, kind: "conv3x3", rank: 4, inFeatures: 8, outFeatures: 6, alpha: 0 },
    ]);
  });

  it("of SDXL, both namings and both text encoders", async () => {
    await writeTensors([
      ...plainModule("lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"),
      ...plainModule("lora_unet_down_blocks_1_attentions_0_transformer_blocks_1_attn1_to_q"),
      ...plainModule("lora_te1_text_model_encoder_layers_0_mlp_fc1"),
      ...plainModule("lora_te2_text_model_encoder_layers_0_mlp_fc1"),
    ]);
    await using adapter = await openAdapter(path);
    expect(adapter.modules.map(({ component }) => component).sort()).toEqual([
      "text_encoder",
      "text_encoder_2",
      "unet",
      "unet",
    ]);
  });

  it("of the golden data", async (context) => {
    const golden = new URL("../../../shared/golden/", import.meta.url);
    if (!existsSync(golden)) return context.skip("no ../shared/golden beside the clone");
    for (const [name, modules, rank, alpha] of [
      ["sd1-tiny", 289, 8, 4],
      ["sd2-tiny", 295, 4, 2],
    ] as const) {
      await using adapter = await openAdapter(new URL(`${name}/lora.safetensors`, golden).pathname);
      expect(adapter.modules.length).toBe(modules);
      expect(adapter.modules.every((module) => module.rank === rank && module.alpha === alpha)).toBe(true);
      expect(adapter.dylora).toMatchObject({
        isDylora: true,
        unit: 1,
        alphaRule: "sd-scripts",
        maxRank: rank,
      });
    }
  });
});

it("names of another model family are named in the error", async () => {
  const module = "diffusion_model.double_blocks.0.img_attn.qkv";
  await writeTensors([
    [`${module}.lora_A.weight`, [4, 8]],
    [`${module}.lora_B.weight`, [6, 4]],
    [`${module}.alpha`, []],
  ]);
  await expect(openAdapter(path)).rejects.toMatchObject({
    code: "E_INCOMPATIBLE",
    exitCode: 3,
    message: expect.stringContaining("the names of ComfyUI"),
    note: expect.stringContaining("another model family"),
  });
});

describe("modules that are no plain LoRA are named", () => {
  it.each([
    ["LoHa", ["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "alpha"]],
    ["LoKr", ["lokr_w1", "lokr_w2_a", "lokr_w2_b", "alpha"]],
    ["OFT", ["oft_blocks", "alpha"]],
    ["Tucker (lora_mid)", ["lora_down.weight", "lora_mid.weight", "lora_up.weight", "alpha"]],
    ["DoRA", ["lora_down.weight", "lora_up.weight", "alpha", "dora_scale"]],
    ["a full difference (diff)", ["diff", "diff_b"]],
    ["GLoRA", ["a1.weight", "a2.weight", "b1.weight", "b2.weight"]],
    ["IA3", ["weight", "on_input"]],
    ["a normalisation layer", ["w_norm", "b_norm"]],
    ["a bias", ["lora_down.weight", "lora_up.weight", "lora_up.bias"]],
    ["LyCORIS' learned scalar", ["lora_down.weight", "lora_up.weight", "scalar"]],
  ])("%s", async (title, parts) => {
    const name = "lora_unet_mid_block_attentions_0_proj_in";
    const foreign = parts.map((part): [string, number[]] => [`${name}.${part}`, [1]]);
    await writeTensors([...foreign, ...plainModule("lora_unet_mid_block_attentions_0_proj_out")]);
    await expect(openAdapter(path)).rejects.toMatchObject({
      code: "E_INCOMPATIBLE",
      message: expect.stringContaining(`1 of 2 modules are no plain LoRA but ${title} (${name})`),
    });
    await using adapter = await openAdapter(path, { foreign: "keep" });
    expect(adapter.modules.length).toBe(1);
    expect(adapter.foreignModules).toMatchObject([
      { name, component: "unet", tensors: { length: parts.length } },
    ]);
  });

  it("a bundled embedding", async () => {
    await writeTensors([["bundle_emb.cat.string_to_param.*", [2, 768]], ...plainModule("lora_te_x")]);
    await expect(openAdapter(path)).rejects.toThrow("a bundled embedding (bundle_emb.cat.string_to_param.*)");
  });
});

describe("files that are no adapter", () => {
  it.each([
    [
      ["model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.encoder.conv_in.weight"],
      "pretrained_model_name_or_path",
    ],
    [["down_blocks.0.resnets.0.conv1.weight"], "pretrained_model_name_or_path"],
    [["emb_params"], "lora_unet_"],
    [[], "lora_unet_"],
  ])("%j", async (names, hint) => {
    await writeTensors(names.map((name) => [name, [2]]));
    await expect(openAdapter(path)).rejects.toMatchObject({
      code: "E_INCOMPATIBLE",
      message: expect.stringContaining("no LoRA file"),
      note: expect.stringContaining(hint),
    });
  });

  it("lists tensors with unknown names", async () => {
    const unknown = ["lora_unet_x.lora_sideways.weight", "lora_te3_x.alpha", "epoch", "z"];
    await writeTensors([
      ...unknown.map((name): [string, number[]] => [name, []]),
      ...plainModule("lora_unet_x"),
    ]);
    await expect(openAdapter(path)).rejects.toMatchObject({
      code: "E_INCOMPATIBLE",
      message: expect.stringMatching(
        /4 tensors have names that are none of kohya .*\(epoch, lora_te3_x.alpha, lora_unet_x.lora_sideways.weight, …\)/,
      ),
    });
    await using adapter = await openAdapter(path, { foreign: "keep" });
    expect(adapter.unknownTensors.map(({ name }) => name)).toEqual([...unknown].sort());
  });

  it("passes on what is wrong with the file itself", async () => {
    await expect(openAdapter(join(folder, "no"))).rejects.toMatchObject({ code: "E_NOT_FOUND" });
  });
});

describe("modules that are damaged", () => {
  const name = "lora_unet_x";
  const down = `${name}.lora_down.weight`;
  const up = `${name}.lora_up.weight`;
  const cases: [string, [string, number[], Dtype?][], string, string][] = [
    ["no up", [[down, [4, 8]]], "E_FORMAT", `module ${name} has no up factor, only ${down}`],
    ["no down", [[up, [6, 4]]], "E_FORMAT", "has no down factor"],
    ["only alpha", [[`${name}.alpha`, []]], "E_FORMAT", `has no down factor, only ${name}.alpha`],
    [
      "two ranks",
      [
        [down, [4, 8]],
        [up, [6, 5]],
      ],
      "E_FORMAT",
      "down is [4, 8] and up is [6, 5]: ranks 4 and 5",
    ],
    [
      "up with a kernel",
      [
        [down, [4, 8, 3, 3]],
        [up, [6, 4, 3, 3]],
      ],
      "E_FORMAT",
      "up is [6, 4, 3, 3] instead of [out, rank]",
    ],
    [
      "up of one dimension",
      [
        [down, [4, 8]],
        [up, [24]],
      ],
      "E_FORMAT",
      "up is [24] instead of",
    ],
    [
      "rank 0",
      [
        [down, [0, 8]],
        [up, [6, 0]],
      ],
      "E_FORMAT",
      "down is [0, 8] and up is [6, 0]: a dimension of 0",
    ],
    [
      "alpha of two numbers",
      [
        [down, [4, 8]],
        [up, [6, 4]],
        [`${name}.alpha`, [2]],
      ],
      "E_FORMAT",
      "alpha has shape [2]",
    ],
    [
      "an odd kernel",
      [
        [down, [4, 8, 5, 5]],
        [up, [6, 4, 1, 1]],
      ],
      "E_INCOMPATIBLE",
      "down is [4, 8, 5, 5]",
    ],
    [
      "three dimensions",
      [
        [down, [4, 8, 3]],
        [up, [6, 4]],
      ],
      "E_INCOMPATIBLE",
      "down is [4, 8, 3]",
    ],
    [
      "integers",
      [
        [down, [4, 8], "I8"],
        [up, [6, 4]],
      ],
      "E_INCOMPATIBLE",
      `${down} is I8`,
    ],
    [
      "half bytes",
      [
        [down, [4, 8], "F4"],
        [up, [6, 4]],
      ],
      "E_INCOMPATIBLE",
      `${down} is F4`,
    ],
  ];
  it.each(cases)("%s", async (_, tensors, code, problem) => {
    await writeTensors(tensors);
    await expect(openAdapter(path)).rejects.toMatchObject({
      code,
      message: expect.stringContaining(problem),
    });
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY])("alpha %s", async (alpha) => {
    await writeRandomAdapter(path, { alpha });
    await expect(openAdapter(path)).rejects.toMatchObject({
      code: "E_FORMAT",
      message: expect.stringContaining(`alpha ${alpha}`),
    });
  });

  it("alpha too wide to be a number", async () => {
    await writeSafetensors(path, [
      { name: down, dtype: "F32", shape: [1, 1], data: () => encodeFromFloat32(Float32Array.of(1), "F32") },
      { name: up, dtype: "F32", shape: [1, 1], data: () => encodeFromFloat32(Float32Array.of(1), "F32") },
      { name: `${name}.alpha`, dtype: "C64", shape: [], data: () => new Uint8Array(8) },
    ]);
    await expect(openAdapter(path)).rejects.toMatchObject({ code: "E_INCOMPATIBLE" });
  });
});
