import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { expectSame, runConvert as run, tensorList } from "../../../test/helpers/convert-adapter.js";
import { writeRandomAdapter } from "../../../test/helpers/random-adapter.js";
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
import { readHeader } from "../../safetensors/index.js";

const GOLDEN = new URL("../../../../shared/golden/", import.meta.url).pathname;

let folder: string;
beforeEach(async () => {
  folder = await tempFolder();
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
