import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { everyKindOfModule, randomValues, writeRandomAdapter } from "../../../test/helpers/random-adapter.js";
import {
  DIFFUSERS_ADAPTER,
  type DialectAdapter,
  KOHYA_ADAPTER,
  PEFT_ADAPTER,
  writeDialectAdapter,
} from "../../../test/helpers/random-dialects.js";
import { tempFolder } from "../../../test/helpers/temp-folder.js";
import { writeTensors } from "../../../test/helpers/write-tensors.js";
import { openAdapter, type WrittenDialect } from "../../adapter/index.js";
import { modulesOf } from "../../adapter/module-names.js";
import { encodeFromFloat32, readHeader, SafetensorsFile, writeSafetensors } from "../../safetensors/index.js";
import { type ConvertReport, convert, type RunConvertOptions } from "./convert.js";
import { planConvert } from "./plan.js";
import { RECORD_KEY } from "./record.js";

const GOLDEN = new URL("../../../../shared/golden/", import.meta.url).pathname;

let folder: string;
beforeEach(async () => {
  folder = await tempFolder();
});

interface RunOptions extends RunConvertOptions {
  readonly keepUnknown?: boolean;
}

async function run(
  from: string,
  to: WrittenDialect,
  path: string,
  options: RunOptions = {},
): Promise<ConvertReport> {
  await using source = await openAdapter(from, { foreign: "keep" });
  const { keepUnknown = false, ...rest } = options;
  return await convert(await planConvert(source, { to, path, keepUnknown }), rest);
}

/** Every file of an adapter by its place below the path. */
async function contents(path: string): Promise<Record<string, Buffer>> {
  const entries = await readdir(path, { recursive: true, withFileTypes: true }).catch(() => null);
  if (entries === null) return { "": await readFile(path) };
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return Object.fromEntries(
    await Promise.all(files.map(async (file) => [file.slice(path.length), await readFile(file)])),
  );
}

async function expectSame(path: string, original: string): Promise<void> {
  const [found, expected] = await Promise.all([contents(path), contents(original)]);
  expect(Object.keys(found).sort()).toEqual(Object.keys(expected).sort());
  for (const [name, bytes] of Object.entries(expected)) {
    if (found[name]!.equals(bytes)) continue;
    // Texts show where they differ.
    expect(found[name]!.toString("latin1").slice(0, 20_000)).toBe(bytes.toString("latin1").slice(0, 20_000));
    expect(found[name]!.length).toBe(bytes.length);
    expect.fail(`${name} differs in its data`);
  }
}

const tensorList = async (path: string) =>
  Object.fromEntries(
    [...(await readHeader(path)).tensors.values()].map(({ name, dtype, shape }) => [
      name,
      `${dtype} [${shape}]`,
    ]),
  );

/** A few modules of every kind, for kohya: SD 1.x by its context width. */
const SD1_MODULES = [
  {
    name: "lora_unet_down_blocks_1_attentions_0_proj_in",
    kind: "conv1x1",
    rank: 2,
    inFeatures: 3,
    outFeatures: 5,
  },
  {
    name: "lora_unet_down_blocks_1_attentions_0_proj_out",
    kind: "linear",
    rank: 2,
    inFeatures: 3,
    outFeatures: 5,
  },
  {
    name: "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k",
    kind: "linear",
    rank: 2,
    inFeatures: 768,
    outFeatures: 5,
  },
  {
    name: "lora_unet_up_blocks_1_attentions_2_transformer_blocks_0_attn1_to_out_0",
    kind: "linear",
    rank: 2,
    inFeatures: 3,
    outFeatures: 5,
    alpha: 8,
  },
  { name: "lora_unet_up_blocks_0_resnets_1_conv1", kind: "conv3x3", rank: 1, inFeatures: 3, outFeatures: 5 },
  {
    name: "lora_te_text_model_encoder_layers_11_mlp_fc2",
    kind: "linear",
    rank: 2,
    inFeatures: 3,
    outFeatures: 5,
  },
] as const;

describe("names and shapes", () => {
  it("kohya to diffusers", async () => {
    const source = join(folder, "kohya.safetensors");
    await writeRandomAdapter(source, { modules: SD1_MODULES, alpha: 0.5 });
    const path = join(folder, "diffusers.safetensors");
    const report = await run(source, "diffusers", path);
    expect(report).toMatchObject({ mappedModules: 6, unmapped: [], isReturn: false, to: "diffusers" });
    expect(await tensorList(path)).toEqual({
      "text_encoder.text_model.encoder.layers.11.mlp.fc2.lora_A.weight": "F16 [2,3]",
      "text_encoder.text_model.encoder.layers.11.mlp.fc2.lora_B.weight": "F16 [5,2]",
      "unet.down_blocks.1.attentions.0.proj_in.lora_A.weight": "F16 [2,3,1,1]",
      "unet.down_blocks.1.attentions.0.proj_in.lora_B.weight": "F16 [5,2,1,1]",
      // A convolution in SD 1.x, whatever the file had.
      "unet.down_blocks.1.attentions.0.proj_out.lora_A.weight": "F16 [2,3,1,1]",
      "unet.down_blocks.1.attentions.0.proj_out.lora_B.weight": "F16 [5,2,1,1]",
      "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight": "F16 [2,768]",
      "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.lora_B.weight": "F16 [5,2]",
      "unet.up_blocks.0.resnets.1.conv1.lora_A.weight": "F16 [1,3,3,3]",
      "unet.up_blocks.0.resnets.1.conv1.lora_B.weight": "F16 [5,1,1,1]",
      "unet.up_blocks.1.attentions.2.transformer_blocks.0.attn1.to_out.0.lora_A.weight": "F16 [2,3]",
      "unet.up_blocks.1.attentions.2.transformer_blocks.0.attn1.to_out.0.lora_B.weight": "F16 [5,2]",
    });
    const { metadata } = await readHeader(path);
    expect(Object.keys(metadata!)).toEqual(["format", "lora_adapter_metadata", RECORD_KEY]);
    expect(JSON.parse(metadata!.lora_adapter_metadata!)).toEqual({
      "unet.r": 2,
      "unet.lora_alpha": 0.5,
      "unet.rank_pattern": { "up_blocks.0.resnets.1.conv1": 1 },
      "unet.alpha_pattern": { "up_blocks.1.attentions.2.transformer_blocks.0.attn1.to_out.0": 8 },
      "unet.target_modules": [
        "down_blocks.1.attentions.0.proj_in",
        "down_blocks.1.attentions.0.proj_out",
        "mid_block.attentions.0.transformer_blocks.0.attn2.to_k",
        "up_blocks.0.resnets.1.conv1",
        "up_blocks.1.attentions.2.transformer_blocks.0.attn1.to_out.0",
      ],
      "text_encoder.r": 2,
      "text_encoder.lora_alpha": 0.5,
      "text_encoder.rank_pattern": {},
      "text_encoder.alpha_pattern": {},
      "text_encoder.target_modules": ["text_model.encoder.layers.11.mlp.fc2"],
    });
    // The numbers are those of the file.
    await using converted = await SafetensorsFile.open(path);
    const down = await converted.read("unet.down_blocks.1.attentions.0.proj_in.lora_A.weight");
    expect(Buffer.from(down)).toEqual(Buffer.from(encodeFromFloat32(randomValues(6, 2), "F16")));
  });

  it("kohya to PEFT: a folder for each component, or one", async () => {
    const source = join(folder, "kohya.safetensors");
    await writeRandomAdapter(source, {
      modules: SD1_MODULES,
      alpha: 0.5,
      metadata: { ss_output_name: "cat" },
    });
    const path = join(folder, "peft");
    await run(source, "peft", path);
    expect(Object.keys(await contents(path)).sort()).toEqual([
      "/text_encoder/adapter_config.json",
      "/text_encoder/adapter_model.safetensors",
      "/unet/adapter_config.json",
      "/unet/adapter_model.safetensors",
    ]);
    expect(await tensorList(join(path, "text_encoder", "adapter_model.safetensors"))).toEqual({
      "base_model.model.text_model.encoder.layers.11.mlp.fc2.lora_A.weight": "F16 [2,3]",
      "base_model.model.text_model.encoder.layers.11.mlp.fc2.lora_B.weight": "F16 [5,2]",
    });
    expect(JSON.parse(await readFile(join(path, "unet", "adapter_config.json"), "utf8"))).toMatchObject({
      peft_type: "LORA",
      r: 2,
      lora_alpha: 0.5,
      rank_pattern: { "up_blocks.0.resnets.1.conv1": 1 },
      alpha_pattern: { "up_blocks.1.attentions.2.transformer_blocks.0.attn1.to_out.0": 8 },
    });
    const unet = await readHeader(join(path, "unet", "adapter_model.safetensors"));
    expect(unet.metadata).toMatchObject({ format: "pt", ss_output_name: "cat" });

    await writeRandomAdapter(source, { modules: SD1_MODULES.slice(0, 3) });
    await run(source, "peft", join(folder, "unet-only"));
    expect(Object.keys(await contents(join(folder, "unet-only"))).sort()).toEqual([
      "/adapter_config.json",
      "/adapter_model.safetensors",
    ]);
  });

  it("diffusers to kohya: alphas in the factors' type, SDXL's own names, facts for A1111, hashes", async () => {
    const source = join(folder, "diffusers.safetensors");
    const pair = (name: string, width: number) => [
      { name: `${name}.lora_A.weight`, shape: [4, width], dtype: "BF16" as const },
      { name: `${name}.lora_B.weight`, shape: [3, 4], dtype: "BF16" as const },
    ];
    await writeTensors(source, [
      ...pair("unet.down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_v", 2048),
      ...pair("text_encoder.text_model.encoder.layers.0.self_attn.q_proj", 768),
      ...pair("text_encoder_2.text_model.encoder.layers.31.self_attn.out_proj", 1280),
    ]);
    const path = join(folder, "kohya.safetensors");
    const report = await run(source, "kohya", path);
    expect(await tensorList(path)).toEqual({
      "lora_te1_text_model_encoder_layers_0_self_attn_q_proj.alpha": "BF16 []",
      "lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight": "BF16 [4,768]",
      "lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight": "BF16 [3,4]",
      "lora_te2_text_model_encoder_layers_31_self_attn_out_proj.alpha": "BF16 []",
      "lora_te2_text_model_encoder_layers_31_self_attn_out_proj.lora_down.weight": "BF16 [4,1280]",
      "lora_te2_text_model_encoder_layers_31_self_attn_out_proj.lora_up.weight": "BF16 [3,4]",
      "lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_v.alpha": "BF16 []",
      "lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_v.lora_down.weight": "BF16 [4,2048]",
      "lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_v.lora_up.weight": "BF16 [3,4]",
    });
    await using converted = await openAdapter(path);
    expect(converted.modules.map(({ alpha }) => alpha)).toEqual([4, 4, 4]);
    expect(converted.metadata).toMatchObject({
      ss_network_module: "networks.lora",
      ss_network_dim: "4",
      ss_network_alpha: "4.0",
      ss_base_model_version: "sdxl_base_v1-0",
      sshs_model_hash: report.outputs[0]!.dataSha256,
      sshs_legacy_hash: expect.stringMatching(/^[0-9a-f]{8}$/),
    });
  });

  it("rank-stabilized PEFT to kohya: the same strength, rounded only where it must be", async () => {
    const source = join(folder, "peft");
    await mkdir(source);
    const modules = [
      ["to_q", 4],
      ["to_k", 3],
    ] as const;
    const path = "mid_block.attentions.0.transformer_blocks.0.attn1";
    await writeTensors(
      join(source, "adapter_model.safetensors"),
      modules.flatMap(([name, rank]) => [
        { name: `base_model.model.${path}.${name}.lora_A.weight`, shape: [rank, 5] },
        { name: `base_model.model.${path}.${name}.lora_B.weight`, shape: [5, rank] },
      ]),
    );
    const config = { peft_type: "LORA", r: 4, lora_alpha: 6, rank_pattern: { to_k: 3 }, use_rslora: true };
    await writeFile(join(source, "adapter_config.json"), JSON.stringify(config));
    const target = join(folder, "kohya.safetensors");
    const report = await run(source, "kohya", target);
    expect(report.notes).toEqual([
      "The alphas of 1 modules are rounded to the nearest float32.",
      expect.stringContaining("Nothing tells whether the file is for SDXL"),
    ]);
    await using kohya = await openAdapter(target);
    const found = kohya.modules.map(({ name, alpha, alphaTensor }) => [
      name.slice(-4),
      alpha,
      alphaTensor?.dtype,
    ]);
    expect(found).toEqual([
      ["to_k", Math.fround(6 * Math.sqrt(3)), "F32"],
      ["to_q", 12, "F16"],
    ]);
    await run(target, "peft", join(folder, "back"));
    await expectSame(join(folder, "back"), source);
  });
});

describe("there and back gives the same bytes", () => {
  describe.runIf(existsSync(GOLDEN))("the golden adapters", () => {
    it.each(["sd1-tiny", "sd2-tiny"])("%s", async (name) => {
      const original = join(GOLDEN, name, "lora.safetensors");
      for (const dialect of ["diffusers", "peft"] as const) {
        const there = join(folder, dialect);
        const { mappedModules } = await run(original, dialect, there);
        expect(mappedModules).toBe((await readHeader(original)).tensors.size / 3);
        const back = join(folder, `from-${dialect}.safetensors`);
        expect(await run(there, "kohya", back)).toMatchObject({ isReturn: true, notes: [] });
        await expectSame(back, original);
      }
    });
  });

  it("every module of SDXL, in both namings", async () => {
    const modules = modulesOf("sdxl");
    for (const naming of ["flatName", "sdxlName"] as const) {
      const original = join(folder, `${naming}.safetensors`);
      const random = modules.map((known) => {
        const kind = known.kinds.get("sdxl")!;
        return { name: known[naming] ?? known.flatName, kind, rank: 1, inFeatures: 2, outFeatures: 3 };
      });
      await writeRandomAdapter(original, { modules: random, hashes: true, metadata: { ss_v2: "False" } });
      await run(original, "diffusers", join(folder, `${naming}.there`));
      await run(join(folder, `${naming}.there`), "kohya", join(folder, `${naming}.back`));
      await expectSame(join(folder, `${naming}.back`), original);
    }
  });

  const GENERATORS: Readonly<Record<WrittenDialect, fc.Arbitrary<DialectAdapter>>> = {
    kohya: KOHYA_ADAPTER,
    diffusers: DIFFUSERS_ADAPTER,
    peft: PEFT_ADAPTER,
  };
  const routes: [from: WrittenDialect, ...through: WrittenDialect[]][] = [
    ["kohya", "diffusers"],
    ["kohya", "peft"],
    ["diffusers", "kohya"],
    ["diffusers", "peft"],
    ["peft", "kohya"],
    ["peft", "diffusers"],
    ["kohya", "diffusers", "peft"],
    ["peft", "kohya", "diffusers"],
    ["diffusers", "peft", "kohya"],
  ];
  it.each(routes.map((route) => [route.join(" to "), route] as const))(
    "random adapters: %s and back",
    async (_, route) => {
      const [from, ...through] = route;
      await fc.assert(
        fc.asyncProperty(GENERATORS[from], async (adapter) => {
          const root = await tempFolder();
          const original = join(root, "0");
          await writeDialectAdapter(original, adapter);
          let current = original;
          for (const [index, dialect] of [...through, from].entries()) {
            const next = join(root, String(index + 1));
            await run(current, dialect, next);
            current = next;
          }
          await expectSame(current, original);
          await rm(root, { recursive: true });
        }),
        { numRuns: 12 },
      );
    },
  );
});

describe("what is in between keeps", () => {
  const METADATA = { ss_output_name: "cat", "modelspec.title": "Cat", ss_network_dim: "4" };
  let original: string;
  let there: string;
  beforeEach(async () => {
    original = join(folder, "original.safetensors");
    there = join(folder, "there.safetensors");
    await writeRandomAdapter(original, { modules: everyKindOfModule(4), metadata: METADATA, hashes: true });
  });

  it("metadata, with the hashes of the converted file", async () => {
    const { outputs } = await run(original, "diffusers", there);
    const { metadata } = await readHeader(there);
    expect(metadata).toMatchObject({ ...METADATA, format: "pt", sshs_model_hash: outputs[0]!.dataSha256 });
    expect(metadata!.sshs_model_hash).not.toBe((await readHeader(original)).metadata!.sshs_model_hash);
  });

  it("a wrong hash comes back as it was, unless the data were changed", async () => {
    const wrong = { ...METADATA, sshs_legacy_hash: "deadbeef", sshs_model_hash: "0".repeat(64) };
    await writeRandomAdapter(original, { modules: everyKindOfModule(4), metadata: wrong });
    await run(original, "diffusers", there);
    const back = join(folder, "back.safetensors");
    await run(there, "kohya", back);
    await expectSame(back, original);

    const bytes = await readFile(there);
    bytes[bytes.length - 1]! ^= 1;
    await writeFile(there, bytes);
    const report = await run(there, "kohya", back, { overwrite: true });
    expect(report.notes).toEqual([expect.stringContaining("was changed after it was converted")]);
    const { metadata } = await readHeader(back);
    expect(Object.keys(metadata!)).toEqual(Object.keys(wrong));
    expect(metadata!.sshs_model_hash).toBe(report.outputs[0]!.dataSha256);
  });

  it("edited, added and removed metadata are kept so", async () => {
    await run(original, "diffusers", there);
    await using converted = await SafetensorsFile.open(there);
    const { "modelspec.title": _, ...rest } = converted.header.metadata!;
    const edited = join(folder, "edited.safetensors");
    await rewrite(there, edited, { ...rest, ss_output_name: "dog", note: "mine" });
    const back = join(folder, "back.safetensors");
    await run(edited, "kohya", back);
    const { metadata } = await readHeader(back);
    const { sshs_model_hash, sshs_legacy_hash, ...others } = metadata!;
    expect(others).toEqual({ ss_output_name: "dog", ss_network_dim: "4", note: "mine" });
  });

  it("a changed alpha wins over the recorded one", async () => {
    await run(original, "diffusers", there);
    const { metadata } = await readHeader(there);
    const fields = JSON.parse(metadata!.lora_adapter_metadata!);
    const changed = { ...fields, "unet.lora_alpha": 1.5, "text_encoder.lora_alpha": 2 };
    const edited = join(folder, "edited.safetensors");
    await rewrite(there, edited, { ...metadata, lora_adapter_metadata: JSON.stringify(changed) });
    await run(edited, "kohya", join(folder, "back.safetensors"));
    await using back = await openAdapter(join(folder, "back.safetensors"));
    expect(new Set(back.modules.map(({ component, alpha }) => `${component} ${alpha}`))).toEqual(
      new Set(["unet 1.5", "text_encoder 2"]),
    );
    await run(original, "peft", join(folder, "peft"));
    const configPath = join(folder, "peft", "unet", "adapter_config.json");
    const config = JSON.parse(await readFile(configPath, "utf8"));
    await writeFile(configPath, JSON.stringify({ ...config, lora_alpha: 1.5 }));
    await run(join(folder, "peft"), "kohya", join(folder, "from-peft.safetensors"));
    await using fromPeft = await openAdapter(join(folder, "from-peft.safetensors"));
    expect(new Set(fromPeft.modules.map(({ alpha }) => alpha))).toEqual(new Set([1.5, 4]));
  });

  it.each(["{", "[]", '{"version":2}', '{"version":1,"dialect":"kohya","parts":[{"folder":"../x"}]}'])(
    "a record that cannot be read is not followed: %s",
    async (record) => {
      await run(original, "diffusers", there);
      const { metadata } = await readHeader(there);
      const edited = join(folder, "edited.safetensors");
      await rewrite(there, edited, { ...metadata, [RECORD_KEY]: record });
      const report = await run(edited, "kohya", join(folder, "back.safetensors"));
      expect(report.isReturn).toBe(false);
      expect(report.notes[0]).toContain("The record of an earlier conversion");
      await using back = await openAdapter(join(folder, "back.safetensors"));
      expect(back.modules).toHaveLength(everyKindOfModule(4).length);
    },
  );

  it("recorded names that are not the module's are not taken", async () => {
    const original2 = join(folder, "old.safetensors");
    const path = "mid_block.attentions.0.transformer_blocks.0.attn1";
    await writeTensors(original2, [
      { name: `unet.${path}.to_q.lora.down.weight`, shape: [2, 3] },
      { name: `unet.${path}.to_q.lora.up.weight`, shape: [3, 2] },
    ]);
    await run(original2, "kohya", there);
    const { metadata } = await readHeader(there);
    const record = metadata![RECORD_KEY]!.replace("to_q.lora.up", "to_k.lora.up");
    const edited = join(folder, "edited.safetensors");
    await rewrite(there, edited, { ...metadata, [RECORD_KEY]: record });
    await run(edited, "diffusers", join(folder, "back.safetensors"));
    expect(Object.keys(await tensorList(join(folder, "back.safetensors")))).toEqual([
      `unet.${path}.to_q.lora_A.weight`,
      `unet.${path}.to_q.lora_B.weight`,
    ]);
  });

  it("a header in another form is said to come back in the usual one", async () => {
    const bytes = await readFile(original);
    const length = Number(bytes.readBigUInt64LE(0));
    const spaced = JSON.stringify(JSON.parse(bytes.toString("utf8", 8, 8 + length)), null, 1);
    const header = Buffer.alloc(8);
    header.writeBigUInt64LE(BigInt(spaced.length));
    const odd = join(folder, "odd.safetensors");
    await writeFile(odd, Buffer.concat([header, Buffer.from(spaced), bytes.subarray(8 + length)]));
    const report = await run(odd, "diffusers", there);
    expect(report.notes).toContainEqual(expect.stringContaining("header is not in the form"));
    await run(there, "kohya", join(folder, "back.safetensors"));
    await expectSame(join(folder, "back.safetensors"), original);
  });
});

describe("a dialect to itself", () => {
  it("brings old names up to date", async () => {
    const original = join(folder, "old.safetensors");
    const path = "down_blocks.0.attentions.0.transformer_blocks.0.attn1";
    await writeTensors(original, [
      { name: `${path}.processor.to_out_lora.down.weight`, shape: [2, 3] },
      { name: `${path}.processor.to_out_lora.up.weight`, shape: [3, 2] },
    ]);
    await run(original, "diffusers", join(folder, "new.safetensors"));
    expect(Object.keys(await tensorList(join(folder, "new.safetensors")))).toEqual([
      `unet.${path}.to_out.0.lora_A.weight`,
      `unet.${path}.to_out.0.lora_B.weight`,
    ]);
  });

  it("gives SDXL's modules their usual names, and alphas to files without", async () => {
    const original = join(folder, "flat.safetensors");
    const name = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_1_attn1_to_q";
    await writeTensors(original, [
      { name: `${name}.lora_down.weight`, shape: [2, 3] },
      { name: `${name}.lora_up.weight`, shape: [3, 2] },
    ]);
    await run(original, "kohya", join(folder, "usual.safetensors"));
    await using usual = await openAdapter(join(folder, "usual.safetensors"));
    expect(usual.modules).toMatchObject([
      {
        name: "lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q",
        alpha: 2,
        alphaTensor: { dtype: "F16" },
      },
    ]);
  });
});

describe("what has no name in the other dialect", () => {
  const LOHA = "lora_unet_mid_block_attentions_0_proj_out";
  let source: string;
  beforeEach(async () => {
    source = join(folder, "mixed.safetensors");
    const module = "lora_unet_mid_block_attentions_0_proj_in";
    const other = "lora_unet_double_blocks_0_img_attn_proj";
    await writeTensors(source, [
      { name: `${module}.lora_down.weight`, shape: [2, 3] },
      { name: `${module}.lora_up.weight`, shape: [3, 2] },
      { name: `${module}.alpha`, shape: [], value: 1 },
      { name: `${other}.lora_down.weight`, shape: [2, 3] },
      { name: `${other}.lora_up.weight`, shape: [3, 2] },
      { name: `${other}.alpha`, shape: [], value: 1 },
      { name: `${LOHA}.hada_w1_a`, shape: [3, 2] },
      { name: "emb.weight", shape: [4] },
    ]);
  });
  // The mapped tensors must be the majority, or the file would be taken for one of kohya's.
  const addMapped = async () => {
    const names = modulesOf("sd1")
      .slice(0, 20)
      .map(({ flatName }) => flatName);
    const modules = names.map(
      (name) => ({ name, kind: "conv3x3", rank: 1, inFeatures: 1, outFeatures: 1 }) as const,
    );
    const known = modulesOf("sd1").slice(0, 20);
    await using old = await SafetensorsFile.open(source);
    const more = modules.flatMap(({ name }, i) => {
      const kernel = { linear: [], conv1x1: [1, 1], conv3x3: [3, 3] }[known[i]!.kinds.get("sd1")!];
      return [
        { name: `${name}.lora_down.weight`, shape: [1, 1, ...kernel] },
        { name: `${name}.lora_up.weight`, shape: [1, 1, ...kernel.map(() => 1)] },
      ];
    });
    const kept = [...old.header.tensors.values()].map(({ name, shape }) => ({ name, shape }));
    await writeTensors(source, [
      ...kept.map((one) => (one.name.endsWith("alpha") ? { ...one, value: 1 } : one)),
      ...more,
    ]);
  };

  it("is listed, and nothing is written", async () => {
    const target = join(folder, "out");
    for (const to of ["diffusers", "peft"] as const) {
      const refused = run(source, to, target);
      await expect(refused).rejects.toMatchObject({
        code: "E_INCOMPATIBLE",
        message: expect.stringContaining(`${LOHA} (LoHa)`),
        note: expect.stringContaining("--keep-unknown"),
      });
      await expect(refused).rejects.toThrow("lora_unet_double_blocks_0_img_attn_proj (no such module");
      await expect(refused).rejects.toThrow("emb.weight (unknown name)");
    }
    expect(await readdir(folder)).toEqual(["mixed.safetensors"]);
  });

  it.each(["diffusers", "peft"] as const)(
    "is carried over where asked for, and comes back: %s",
    async (to) => {
      await addMapped();
      const there = join(folder, "there");
      const report = await run(source, to, there, { keepUnknown: true });
      expect(report).toMatchObject({ mappedModules: 21, unmapped: { length: 3 } });
      await using converted = await openAdapter(there, { foreign: "keep" });
      expect(converted.dialect).toBe(to);
      expect(converted.unknownTensors.map(({ name }) => name)).toContain(`${LOHA}.hada_w1_a`);
      await expect(openAdapter(there)).rejects.toMatchObject({ code: "E_INCOMPATIBLE" });
      await run(there, "kohya", join(folder, "back.safetensors"), { keepUnknown: true });
      await expectSame(join(folder, "back.safetensors"), source);
    },
  );

  it("comes back into the folder that it was in", async () => {
    const peft = join(folder, "peft");
    await writeRandomAdapter(source, { modules: everyKindOfModule(2) });
    await run(source, "peft", peft);
    for (const [part, more] of [
      ["unet", []],
      ["text_encoder", [{ name: "base_model.model.score.weight", shape: [3] }]],
    ] as const) {
      // Without the record of the conversion: as if PEFT had written it.
      const file = join(peft, part, "adapter_model.safetensors");
      const { tensors } = await readHeader(file);
      await writeTensors(file, [...tensors.values(), ...more]);
    }
    const kohya = join(folder, "kohya.safetensors");
    await run(peft, "kohya", kohya, { keepUnknown: true });
    expect(Object.keys(await tensorList(kohya))).toContain("text_encoder/base_model.model.score.weight");
    await run(kohya, "peft", join(folder, "back"), { keepUnknown: true });
    await expectSame(join(folder, "back"), peft);
  });

  it("a component of nothing else comes back as it was", async () => {
    const peft = join(folder, "peft");
    await writeRandomAdapter(source, { modules: everyKindOfModule(2) });
    await run(source, "peft", peft);
    await writeTensors(join(peft, "text_encoder", "adapter_model.safetensors"), [
      { name: "base_model.model.encoder.lora_A.weight", shape: [2, 3] },
      { name: "base_model.model.encoder.lora_B.weight", shape: [3, 2] },
    ]);
    await writeFile(join(peft, "text_encoder", "adapter_config.json"), '{"r": 2}');
    const unet = join(peft, "unet", "adapter_model.safetensors");
    await writeTensors(unet, [...(await readHeader(unet)).tensors.values()]);
    const kohya = join(folder, "kohya.safetensors");
    await run(peft, "kohya", kohya, { keepUnknown: true });
    await run(kohya, "peft", join(folder, "back"), { keepUnknown: true });
    await expectSame(join(folder, "back"), peft);
  });

  it("more of it than of the rest would be taken for the old dialect", async () => {
    const names = Array.from({ length: 9 }, (_, i) => `lora_unet_up_blocks_1_attentions_0_x_${i}.hada_w1_a`);
    const module = "lora_unet_mid_block_attentions_0_proj_in";
    await writeTensors(source, [
      { name: `${module}.lora_down.weight`, shape: [2, 3] },
      { name: `${module}.lora_up.weight`, shape: [3, 2] },
      ...names.map((name) => ({ name, shape: [2] })),
    ]);
    await expect(run(source, "diffusers", join(folder, "out"), { keepUnknown: true })).rejects.toMatchObject({
      code: "E_INCOMPATIBLE",
      message: expect.stringContaining("would be taken for kohya"),
    });
  });

  it("a kernel that the model does not have there", async () => {
    const name = "lora_unet_mid_block_resnets_0_conv1";
    await writeTensors(source, [
      { name: `${name}.lora_down.weight`, shape: [2, 3] },
      { name: `${name}.lora_up.weight`, shape: [3, 2] },
      { name: "lora_unet_conv_in.lora_down.weight", shape: [2, 4, 3, 3] },
      { name: "lora_unet_conv_in.lora_up.weight", shape: [3, 2, 1, 1] },
    ]);
    await expect(run(source, "diffusers", join(folder, "out"))).rejects.toThrow(
      `${name} (its kernel is not that of unet.mid_block.resnets.0.conv1)`,
    );
  });

  it("nothing at all that could be converted", async () => {
    await writeTensors(source, [{ name: `${LOHA}.hada_w1_a`, shape: [3, 2] }]);
    await expect(run(source, "peft", join(folder, "out"), { keepUnknown: true })).rejects.toMatchObject({
      code: "E_INCOMPATIBLE",
      message: expect.stringContaining("no module that another dialect could name"),
    });
  });

  it("a module under two names", async () => {
    const names = ["lora_unet_middle_block_1_proj_in", "lora_unet_mid_block_attentions_0_proj_in"];
    const tensors = names.flatMap((name) => [
      { name: `${name}.lora_down.weight`, shape: [2, 3] },
      { name: `${name}.lora_up.weight`, shape: [3, 2] },
    ]);
    await writeTensors(source, tensors);
    await expect(run(source, "diffusers", join(folder, "out"))).rejects.toThrow("are the same module");
  });

  it("a name of the other dialect already", async () => {
    await addMapped();
    const { tensors } = await readHeader(source);
    await writeTensors(source, [
      ...tensors.values(),
      { name: "unet.conv_out.lora_A.weight", shape: [1, 1, 3, 3] },
    ]);
    await expect(run(source, "diffusers", join(folder, "out"), { keepUnknown: true })).rejects.toThrow(
      "would keep its name, and be taken for a module of diffusers",
    );
  });
});

describe("the target", () => {
  let source: string;
  beforeEach(async () => {
    source = join(folder, "cat.safetensors");
    await writeRandomAdapter(source, { modules: everyKindOfModule(2) });
  });
  const names = async () => (await readdir(folder, { recursive: true })).sort();

  it("stays if it exists, unless it is to be replaced", async () => {
    const file = join(folder, "out.safetensors");
    await writeFile(file, "mine");
    await expect(run(source, "diffusers", file)).rejects.toMatchObject({ code: "E_EXISTS" });
    expect(await readFile(file, "utf8")).toBe("mine");
    await run(source, "diffusers", file, { overwrite: true });
    await using written = await openAdapter(file);
    expect(written.dialect).toBe("diffusers");

    const peft = join(folder, "peft");
    await run(source, "peft", peft);
    const before = await contents(peft);
    await expect(run(source, "peft", peft)).rejects.toMatchObject({ code: "E_EXISTS" });
    await writeRandomAdapter(source, { modules: everyKindOfModule(2), seed: 9 });
    await run(source, "peft", peft, { overwrite: true });
    const after = await contents(peft);
    expect(Object.keys(after)).toEqual(Object.keys(before));
    expect(after["/unet/adapter_model.safetensors"]).not.toEqual(before["/unet/adapter_model.safetensors"]);
    expect((await readdir(folder)).sort()).toEqual(["cat.safetensors", "out.safetensors", "peft"]);
  });

  it("is no folder with anything else in it, even then", async () => {
    const peft = join(folder, "peft");
    await run(source, "peft", peft);
    await writeFile(join(peft, "unet", "README.md"), "mine");
    await expect(run(source, "peft", peft, { overwrite: true })).rejects.toMatchObject({
      code: "E_EXISTS",
      message: expect.stringContaining(join("unet", "README.md")),
    });
    expect(await readFile(join(peft, "unet", "README.md"), "utf8")).toBe("mine");
    await writeFile(join(folder, "file"), "mine");
    await expect(run(source, "peft", join(folder, "file"), { overwrite: true })).rejects.toMatchObject({
      code: "E_EXISTS",
    });
  });

  it("is not the source, nor the folder that it is in", async () => {
    await symlink(source, join(folder, "link.safetensors"));
    await expect(
      run(source, "diffusers", join(folder, "link.safetensors"), { overwrite: true }),
    ).rejects.toMatchObject({
      code: "E_EXISTS",
    });
    const peft = join(folder, "peft");
    await run(source, "peft", peft);
    await expect(run(peft, "peft", peft, { overwrite: true })).rejects.toThrow(
      "it is in the folder that would be written",
    );
    await expect(run(join(peft, "unet"), "peft", peft, { overwrite: true })).rejects.toMatchObject({
      code: "E_EXISTS",
    });
  });

  it("is not there when the work is stopped, or the folder is missing", async () => {
    for (const to of ["diffusers", "peft"] as const) {
      const controller = new AbortController();
      const options = { signal: controller.signal, onProgress: () => controller.abort() };
      await expect(run(source, to, join(folder, "out"), options)).rejects.toMatchObject({
        code: "E_INTERRUPTED",
      });
      await expect(run(source, to, join(folder, "no", "out"))).rejects.toMatchObject({ code: "E_WRITE" });
    }
    expect(await names()).toEqual(["cat.safetensors"]);
  });
});

it("plans sizes, and reports progress up to the whole", async () => {
  const source = join(folder, "cat.safetensors");
  await writeRandomAdapter(source, { modules: everyKindOfModule(2), hashes: true });
  for (const to of ["diffusers", "peft"] as const) {
    await using adapter = await openAdapter(source);
    const plan = await planConvert(adapter, { to, path: join(folder, to) });
    const progress: number[] = [];
    const { outputs } = await convert(plan, {
      onProgress: ({ doneBytes, totalBytes }) => progress.push(doneBytes / totalBytes),
    });
    expect(outputs.map(({ path, sizeBytes }) => [path, sizeBytes])).toEqual(
      plan.parts.map(({ path, sizeBytes }) => [path, sizeBytes]),
    );
    expect(outputs.map(({ path }) => basename(path))[0]).toBe(
      to === "peft" ? "adapter_model.safetensors" : to,
    );
    expect(progress).toEqual([...progress].sort((a, b) => a - b));
    expect(progress.at(-1)).toBe(1);
  }
});

/** The same tensors with other metadata. */
async function rewrite(from: string, to: string, metadata: Readonly<Record<string, string>>): Promise<void> {
  await using file = await SafetensorsFile.open(from);
  const tensors = [...file.header.tensors.values()];
  await writeSafetensors(
    to,
    tensors.map(({ name, dtype, shape }) => ({ name, dtype, shape, data: () => file.read(name) })),
    { metadata },
  );
}
