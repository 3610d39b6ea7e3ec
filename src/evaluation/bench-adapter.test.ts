import { existsSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import { GOLDEN, TINY_MODEL } from "../../test/helpers/tiny-run.js";
import { openAdapter, readFactors, writeAdapter } from "../adapter/index.js";
import { openCheckpoint } from "../models/checkpoint/index.js";
import { type LoraTarget, loraTargets } from "../models/lora-targets.js";
import { extract, planExtract } from "../surgery/index.js";
import { freshModule } from "../training/network.js";
import { absentModule, openBenchAdapter } from "./bench-adapter.js";

const LINEAR = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q";
const CONV = "lora_unet_down_blocks_0_resnets_0_conv1";

let all: readonly LoraTarget[];
let folder: string;
let files = 0;

beforeAll(async () => {
  const checkpoint = await openCheckpoint(TINY_MODEL);
  all = loraTargets(
    { unet: checkpoint.unet.config, textEncoder: checkpoint.textEncoder.config },
    { convDim: true },
  );
  folder = await tempFolder();
});

/** A file with a Linear module of rank 12 and a convolution of rank 4, alpha 6 and 2. */
async function write(metadata: Record<string, string>, [linearRank, convRank] = [12, 4]): Promise<string> {
  const path = join(folder, `${files++}.safetensors`);
  const modules = [
    [LINEAR, linearRank, 6],
    [CONV, convRank, 2],
  ].map(([name, rank, alpha]) => {
    const target = all.find((candidate) => candidate.name === name)!;
    const { down, up } = freshModule(target, rank as number, alpha as number, 1);
    return {
      ...target,
      rank: rank as number,
      alpha: alpha as number,
      down,
      upT: up.map((_, index) => index % 5),
    };
  });
  await writeAdapter(path, modules, { metadata, dtype: "F16" });
  return path;
}

const dylora = (args: Record<string, string>) => ({
  ss_network_module: "networks.dylora",
  ss_network_args: JSON.stringify({ unit: "4", ...args }),
});

const scales = (active: readonly { rank: number; scale: number }[]) =>
  active.map(({ rank, scale }) => ({ rank, alpha: scale * rank }));

describe("openBenchAdapter", () => {
  test.each([
    ["paper", (alpha: number) => alpha],
    ["sd-scripts", (alpha: number, share: number) => alpha * Math.sqrt(share)],
    ["keep", (alpha: number, share: number) => alpha * share],
  ])("a rank has the strength that the rule %s gives the extracted file", async (rule, alphaAt) => {
    const path = await write(dylora({ alpha_rule: rule }));
    const adapter = await openBenchAdapter(path, all, null);
    expect(adapter).toMatchObject({ path, maxRank: 12, ranks: [4, 8, 12] });
    const active = adapter.activate(8);
    const [linear, conv] = [LINEAR, CONV].map((name) =>
      active.find(({ factors }) => factors.target.name === name),
    );
    expect(scales([linear!, conv!])).toEqual([
      { rank: 8, alpha: expect.closeTo(alphaAt(6, 8 / 12), 10) },
      // The convolution's own rank is lower: it takes part as a whole.
      { rank: 4, alpha: expect.closeTo(2, 10) },
    ]);
  });

  test("factors and strength are exactly those of the extracted file", async () => {
    const path = await write(dylora({ alpha_rule: "sd-scripts" }));
    const measured = await openBenchAdapter(path, all, null);
    await using parent = await openAdapter(path);
    const { outputs } = await extract(planExtract(parent, { all: true }, { outDir: await tempFolder() }));
    for (const { rank, path: copyPath, sizeBytes } of outputs) {
      expect(measured.fileSizeBytes(rank)).toBe(sizeBytes);
      await using copy = await openAdapter(copyPath);
      for (const module of copy.modules) {
        const active = measured.activate(rank).find(({ factors }) => factors.target.name === module.name)!;
        const { down, upT } = await readFactors(copy.file, module);
        expect(active.rank).toBe(module.rank);
        expect(active.factors.down.subarray(0, down.length)).toEqual(down);
        expect(active.factors.up.subarray(0, upT.length)).toEqual(upT);
        expect(active.scale / (module.alpha / module.rank)).toBeCloseTo(1, 6);
      }
    }
  });

  test("an ordinary LoRA is measured as it is", async () => {
    const adapter = await openBenchAdapter(await write({}), all, null);
    expect(adapter.ranks).toEqual([12]);
    expect(
      scales(adapter.activate(12))
        .map(({ alpha }) => alpha)
        .sort(),
    ).toEqual([2, 6]);
  });

  test("at most 8 of many ranks are measured, evenly spread, the maximum included", async () => {
    const path = await write(dylora({ unit: "1", alpha_rule: "paper" }));
    expect((await openBenchAdapter(path, all, null)).ranks).toEqual([2, 4, 6, 8, 10, 12]);
  });

  test("named ranks are measured with the maximum, to compare with; 0 is the base model's", async () => {
    const path = await write(dylora({ alpha_rule: "paper" }));
    expect((await openBenchAdapter(path, all, [0, 4])).ranks).toEqual([4, 12]);
    await expect(openBenchAdapter(path, all, [16])).rejects.toMatchObject({ code: "E_RANK" });
    await expect(openBenchAdapter(path, all, [6])).rejects.toMatchObject({
      code: "E_RANK",
      message: expect.stringContaining("no multiple of the unit 4"),
    });
  });

  test.skipIf(!existsSync(GOLDEN))("the adapter of another base model is refused", async () => {
    await expect(
      openBenchAdapter(join(GOLDEN, "sd2-tiny/lora.safetensors"), all, null),
    ).rejects.toMatchObject({
      code: "E_INCOMPATIBLE",
    });
  });
});

test("a module that a file lacks does nothing", () => {
  const target = all.find(({ name }) => name === CONV)!;
  expect(absentModule(target)).toMatchObject({ rank: 0, scale: 0 });
  expect(absentModule(target).factors.down.every((value) => value === 0)).toBe(true);
});
