import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { DYLORA, expectPrefix, PAPER } from "../../../test/helpers/extract-file.js";
import { outDir, parentPath, run, useExtractFolder } from "../../../test/helpers/extract-folder.js";
import { everyKindOfModule, writeRandomAdapter } from "../../../test/helpers/random-adapter.js";
import { openAdapter } from "../../adapter/index.js";
import { computeModelHash } from "../../safetensors/index.js";
import { extractedAlpha } from "./alpha-rule.js";

useExtractFolder();

describe("ranks of components", () => {
  const rankOf = ({ component }: { component: string }, unet: number, te: number) =>
    component === "unet" ? unet : te;

  it.each([
    [null, { unet: 6, te: 2 }, [[6, 2]]],
    [null, { unet: 4 }, [[4, 8]]],
    [
      { ranks: [2, 8] },
      { te: 4 },
      [
        [2, 4],
        [8, 4],
      ],
    ],
    [
      { unit: 4 },
      { unet: 2 },
      [
        [2, 4],
        [2, 8],
      ],
    ],
  ] as const)("%j with %j", async (selection, componentRanks, expected) => {
    await writeRandomAdapter(parentPath, { metadata: DYLORA });
    const { outputs } = await run(selection, { componentRanks });
    await using parent = await openAdapter(parentPath);
    expect(outputs.length).toBe(expected.length);
    for (const [i, [unet, te]] of expected.entries()) {
      const { path, rank, componentRanks: ranks, sizeBytes, dataSha256 } = outputs[i]!;
      expect({ path, rank, ranks }).toEqual({
        path: join(outDir, `cat-unet${unet}-te${te}.safetensors`),
        rank: Math.max(unet, te),
        ranks: { unet, te },
      });
      await using copy = await openAdapter(path);
      expect(copy.file.sizeBytes).toBe(sizeBytes);
      expect(await computeModelHash(copy.file)).toBe(dataSha256);
      await expectPrefix(parent, copy, (module) => rankOf(module, unet, te));
      for (const module of copy.modules) {
        const own = rankOf(module, unet, te);
        const alpha = extractedAlpha("sd-scripts", { alpha: 4, rank: 8, unit: 1 }, own);
        expect(module.alpha).toBe(Math.fround(alpha));
      }
      expect(copy.metadata.ss_network_dim).toBe(String(Math.max(unet, te)));
      expect(JSON.parse(copy.metadata.ss_network_args!)).toMatchObject({
        unet_dim: String(unet),
        te_dim: String(te),
      });
    }
  });

  it("of a file whose text encoder has a lower rank", async () => {
    const modules = everyKindOfModule(8).map((module) =>
      module.name.startsWith("lora_te_") ? { ...module, rank: 4 } : module,
    );
    await writeRandomAdapter(parentPath, { modules });
    const { outputs } = await run(null, { componentRanks: { unet: 2 } });
    expect(outputs).toMatchObject([{ rank: 4, componentRanks: { unet: 2, te: 4 }, wholeModules: 0 }]);
    // A selection ends at the largest rank of what it is for.
    const { outputs: all } = await run({ all: true }, { componentRanks: { unet: 8 } });
    expect(all.map(({ componentRanks }) => componentRanks)).toEqual(
      [1, 2, 3, 4].map((te) => ({ unet: 8, te })),
    );
    await expect(run(null, { componentRanks: { te: 8 } })).rejects.toMatchObject({
      code: "E_RANK",
      message: expect.stringContaining("text encoder: rank 8 is above the largest rank, 4"),
    });
  });

  it("refused: a component that is not there, a rank between the file's, a selection for nothing", async () => {
    await writeRandomAdapter(parentPath, { metadata: PAPER });
    await expect(run(null, { componentRanks: { unet: 3 } })).rejects.toMatchObject({ code: "E_RANK" });
    await expect(run({ ranks: [2] }, { componentRanks: { unet: 4, te: 2 } })).rejects.toMatchObject({
      code: "E_USAGE",
      note: expect.stringContaining("Leave out --ranks"),
    });
    const modules = everyKindOfModule(8).filter(({ name }) => name.startsWith("lora_unet_"));
    await writeRandomAdapter(parentPath, { modules });
    await expect(run(null, { componentRanks: { unet: 4, te: 2 } })).rejects.toMatchObject({
      code: "E_INCOMPATIBLE",
      message: expect.stringContaining("it has no modules of the text encoder"),
    });
    expect(existsSync(outDir)).toBe(false);
    const { outputs } = await run(null, { componentRanks: { unet: 4 } });
    expect(outputs[0]!.path).toBe(join(outDir, "cat-unet4.safetensors"));
  });
});
