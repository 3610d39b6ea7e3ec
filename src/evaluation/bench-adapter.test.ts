import { existsSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import { GOLDEN, TINY_MODEL } from "../../test/helpers/tiny-run.js";
import { openAdapter, readFactors, writeAdapter } from "../adapter/index.js";
import { type Checkpoint, openCheckpoint } from "../models/checkpoint/index.js";
import { type LoraTarget, loraTargets } from "../models/lora-targets.js";
import { convert } from "../surgery/convert/convert.js";
import { planConvert } from "../surgery/convert/plan.js";
import { extract, planExtract } from "../surgery/index.js";
import { freshModule } from "../training/network.js";
import { type BenchAdapter, openBenchAdapters } from "./bench-adapter.js";
import { NO_ADAPTER } from "./content-keys.js";

const LINEAR = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q";
const CONV = "lora_unet_down_blocks_0_resnets_0_conv1";

let checkpoint: Checkpoint;
let all: readonly LoraTarget[];
let folder: string;
let files = 0;

beforeAll(async () => {
  checkpoint = await openCheckpoint(TINY_MODEL);
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

async function open(path: string, ranks: readonly number[] | null = null): Promise<BenchAdapter> {
  return (await openBenchAdapters([path], checkpoint, ranks))[0]!;
}

const dylora = (args: Record<string, string>) => ({
  ss_network_module: "networks.dylora",
  ss_network_args: JSON.stringify({ unit: "4", ...args }),
});

const scales = (active: readonly { rank: number; scale: number }[]) =>
  active.map(({ rank, scale }) => ({ rank, alpha: scale * rank }));

describe("openBenchAdapters", () => {
  test.each([
    ["paper", (alpha: number) => alpha],
    ["sd-scripts", (alpha: number, share: number) => alpha * Math.sqrt(share)],
    ["keep", (alpha: number, share: number) => alpha * share],
  ])("a rank has the strength that the rule %s gives the extracted file", async (rule, alphaAt) => {
    const path = await write(dylora({ alpha_rule: rule }));
    const adapter = await open(path);
    expect(adapter).toMatchObject({ path, maxRank: 12, ranks: [4, 8, 12] });
    const active = adapter.loaded.activate(8);
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
    const measured = await open(path);
    await using parent = await openAdapter(path);
    const { outputs } = await extract(planExtract(parent, { all: true }, { outDir: await tempFolder() }));
    for (const { rank, path: copyPath, sizeBytes } of outputs) {
      expect(measured.fileSizeBytes(rank)).toBe(sizeBytes);
      await using copy = await openAdapter(copyPath);
      for (const module of copy.modules) {
        const active = measured.loaded
          .activate(rank)
          .find(({ factors }) => factors.target.name === module.name)!;
        const { down, upT } = await readFactors(copy.file, module);
        expect(active.rank).toBe(module.rank);
        expect(active.factors.down.subarray(0, down.length)).toEqual(down);
        expect(active.factors.up.subarray(0, upT.length)).toEqual(upT);
        expect(active.scale / (module.alpha / module.rank)).toBeCloseTo(1, 6);
      }
    }
  });

  test("an ordinary LoRA is measured as it is", async () => {
    const adapter = await open(await write({}));
    expect(adapter.ranks).toEqual([12]);
    expect(
      scales(adapter.loaded.activate(12))
        .map(({ alpha }) => alpha)
        .sort(),
    ).toEqual([2, 6]);
  });

  test("at most 8 of many ranks are measured, evenly spread, the maximum included", async () => {
    const path = await write(dylora({ unit: "1", alpha_rule: "paper" }));
    expect((await open(path)).ranks).toEqual([2, 4, 6, 8, 10, 12]);
  });

  test("named ranks are measured with the maximum, to compare with; 0 is the base model's", async () => {
    const path = await write(dylora({ alpha_rule: "paper" }));
    expect((await open(path, [0, 4])).ranks).toEqual([4, 12]);
    await expect(open(path, [16])).rejects.toMatchObject({ code: "E_RANK" });
    await expect(open(path, [6])).rejects.toMatchObject({
      code: "E_RANK",
      message: expect.stringContaining("no multiple of the unit 4"),
    });
  });

  test.skipIf(!existsSync(GOLDEN))("the adapter of another base model is refused", async () => {
    await expect(open(join(GOLDEN, "sd2-tiny/lora.safetensors"))).rejects.toMatchObject({
      code: "E_INCOMPATIBLE",
    });
  });
});

describe("keys of content", () => {
  test("the extracted file of a rank has the key of its parent at that rank, in every dialect", async () => {
    const path = await write(dylora({ alpha_rule: "paper" }));
    await using parent = await openAdapter(path);
    const { outputs } = await extract(planExtract(parent, { all: true }, { outDir: await tempFolder() }));
    const paths = [path, ...outputs.map((output) => output.path)];
    const [whole, ...copies] = await openBenchAdapters(paths, checkpoint, null);
    for (const copy of copies) {
      for (const rank of copy.ranks) expect(copy.key(rank, 0.5)).toBe(whole!.key(rank, 0.5));
      const folder = await tempFolder();
      for (const dialect of ["diffusers", "peft"] as const) {
        const out = join(folder, dialect === "peft" ? dialect : `${dialect}.safetensors`);
        await using source = await openAdapter(copy.path);
        await convert(await planConvert(source, { to: dialect, path: out }));
        expect((await open(out, [copy.maxRank])).key(copy.maxRank, 1)).toBe(whole!.key(copy.maxRank, 1));
      }
    }
  });

  test("another rank, strength or content has another key; no strength is no adapter", async () => {
    const adapter = await open(await write(dylora({ alpha_rule: "paper" })));
    const other = await open(await write(dylora({ alpha_rule: "keep" })));
    const keys = [adapter.key(4, 1), adapter.key(8, 1), adapter.key(8, 0.5), other.key(8, 1)];
    expect(new Set(keys).size).toBe(4);
    expect(adapter.key(8, 0)).toBe(NO_ADAPTER);
    // At full rank both rules mean the same.
    expect(other.key(12, 1)).toBe(adapter.key(12, 1));
  });
});
