import { mkdir, readFile, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import {
  contents,
  expectSame,
  runConvert as run,
  SD1_MODULES,
  tensorList,
} from "../../../test/helpers/convert-adapter.js";
import { everyKindOfModule, randomValues, writeRandomAdapter } from "../../../test/helpers/random-adapter.js";
import { tempFolder } from "../../../test/helpers/temp-folder.js";
import { writeTensors } from "../../../test/helpers/write-tensors.js";
import { openAdapter } from "../../adapter/index.js";
import { encodeFromFloat32, readHeader, SafetensorsFile, writeSafetensors } from "../../safetensors/index.js";
import { convert } from "./convert.js";
import { planConvert } from "./plan.js";
import { RECORD_KEY } from "./record.js";

let folder: string;
beforeEach(async () => {
  folder = await tempFolder();
});

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
