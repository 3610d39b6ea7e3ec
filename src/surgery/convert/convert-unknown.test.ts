import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { expectSame, runConvert as run, tensorList } from "../../../test/helpers/convert-adapter.js";
import { everyKindOfModule, writeRandomAdapter } from "../../../test/helpers/random-adapter.js";
import { tempFolder } from "../../../test/helpers/temp-folder.js";
import { writeTensors } from "../../../test/helpers/write-tensors.js";
import { openAdapter } from "../../adapter/index.js";
import { modulesOf } from "../../adapter/module-names.js";
import { readHeader, SafetensorsFile } from "../../safetensors/index.js";

let folder: string;
beforeEach(async () => {
  folder = await tempFolder();
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
