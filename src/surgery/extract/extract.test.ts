import { existsSync, readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { DYLORA, expectPrefix, PAPER } from "../../../test/helpers/extract-file.js";
import { outDir, parentPath, run, useExtractFolder } from "../../../test/helpers/extract-folder.js";
import {
  everyKindOfModule,
  type RandomAdapterOptions,
  writeRandomAdapter,
} from "../../../test/helpers/random-adapter.js";
import { ALPHA_RULES, openAdapter } from "../../adapter/index.js";
import { computeModelHash } from "../../safetensors/index.js";
import { extractedAlpha } from "./alpha-rule.js";
import { extract } from "./extract.js";
import { planExtract } from "./plan-extract.js";

useExtractFolder();

describe("every tensor is the prefix of its parent, byte for byte", () => {
  const parents: [string, RandomAdapterOptions][] = [
    ["float16", { dtype: "F16" }],
    ["bfloat16, alpha float32", { dtype: "BF16", alphaDtype: "F32" }],
    ["float32", { dtype: "F32" }],
    ["float64", { dtype: "F64" }],
    ["float8, alpha float16", { dtype: "F8_E4M3", alphaDtype: "F16" }],
    ["float16, alpha int64", { dtype: "F16", alphaDtype: "I64" }],
    ["convolutions of a rank of their own", { modules: everyKindOfModule(8, 3) }],
    ["convolutions of a higher rank", { modules: everyKindOfModule(5, 8) }],
    ["an odd rank", { modules: everyKindOfModule(7) }],
  ];
  it.each(parents)("%s", async (_, options) => {
    await writeRandomAdapter(parentPath, options);
    const { outputs } = await run({ all: true });
    await using parent = await openAdapter(parentPath);
    expect(outputs.map(({ rank }) => rank)).toEqual(Array.from({ length: parent.maxRank }, (__, i) => i + 1));
    for (const { rank, path, sizeBytes, dataSha256 } of outputs) {
      await using copy = await openAdapter(path);
      await expectPrefix(parent, copy, rank);
      expect(copy.modules.every(({ alpha }) => alpha === 4)).toBe(true);
      expect(copy.file.sizeBytes).toBe(sizeBytes);
      expect(await computeModelHash(copy.file)).toBe(dataSha256);
      expect(copy.metadata).toMatchObject({ sshs_model_hash: dataSha256, ss_network_dim: String(rank) });
    }
    expect(readdirSync(outDir).sort()).toEqual(outputs.map(({ rank }) => `cat-r${rank}.safetensors`).sort());
  });

  it("the maximum is the parent itself", async () => {
    await writeRandomAdapter(parentPath, { hashes: true, metadata: PAPER });
    const { parent, outputs } = await run({ ranks: [8] });
    expect(outputs[0]!.dataSha256).toBe(parent.dataSha256);
    expect(parent.hashMatches).toBe(true);
  });

  it("tensors larger than a chunk, files larger than a buffer, hashes on other threads", async () => {
    // 2.2 million columns of one row are 4.4 MB; 9 ranks of it exceed what is hashed on the main thread.
    const wide = {
      name: "lora_unet_wide",
      kind: "linear",
      rank: 3,
      inFeatures: 2_200_000,
      outFeatures: 3,
    } as const;
    const tall = {
      name: "lora_unet_tall",
      kind: "linear",
      rank: 3,
      inFeatures: 3,
      outFeatures: 2_200_001,
    } as const;
    await writeRandomAdapter(parentPath, { modules: [wide, tall] });
    const { outputs } = await run({ all: true });
    await using parent = await openAdapter(parentPath);
    const whole = {
      wide: await parent.file.read("lora_unet_wide.lora_down.weight"),
      tall: await parent.file.read("lora_unet_tall.lora_up.weight"),
    };
    const wholeTall = new Uint16Array(whole.tall.buffer);
    for (const { rank, path, dataSha256 } of outputs) {
      await using copy = await openAdapter(path);
      expect(await computeModelHash(copy.file)).toBe(dataSha256);
      const down = await copy.file.read("lora_unet_wide.lora_down.weight");
      expect(Buffer.compare(down, whole.wide.subarray(0, down.length))).toBe(0);
      const up = new Uint16Array((await copy.file.read("lora_unet_tall.lora_up.weight")).buffer);
      let different = 0;
      for (let row = 0; row < tall.outFeatures; row++) {
        for (let i = 0; i < rank; i++) if (up[row * rank + i] !== wholeTall[row * 3 + i]) different++;
      }
      expect(different).toBe(0);
    }
  });

  it("more files than one pass writes", async () => {
    const module = { name: "lora_unet_x", kind: "linear", rank: 150, inFeatures: 4, outFeatures: 5 } as const;
    await writeRandomAdapter(parentPath, { modules: [module] });
    const { outputs } = await run({ all: true });
    expect(outputs.length).toBe(150);
    await using parent = await openAdapter(parentPath);
    for (const { rank, path } of [outputs[0]!, outputs[127]!, outputs[128]!, outputs[149]!]) {
      await using copy = await openAdapter(path);
      await expectPrefix(parent, copy, rank);
    }
  });

  it("of the golden data", async (context) => {
    const golden = new URL("../../../../shared/golden/", import.meta.url);
    if (!existsSync(golden)) return context.skip("no ../shared/golden beside the clone");
    for (const [name, hash] of [
      ["sd1-tiny", "c6baf9036a9b6602c1c8e2d73c22ee08e11bca686998463ed96a8e34c845bf55"],
      ["sd2-tiny", "e20fed59e5d986657e9f6887858ff658647bcc3caa84c153cd7ac8b41fc5b9ff"],
    ] as const) {
      await using parent = await openAdapter(new URL(`${name}/lora.safetensors`, golden).pathname);
      const plan = planExtract(
        parent,
        { ranks: [1, 3, parent.maxRank] },
        { outDir, stem: name, alphaRule: "paper" },
      );
      const report = await extract(plan);
      expect(report.parent.dataSha256).toBe(hash);
      expect(report.outputs[2]!.dataSha256).toBe(hash);
      for (const { rank, path } of report.outputs) {
        await using copy = await openAdapter(path);
        await expectPrefix(parent, copy, rank);
      }
    }
  });
});

describe("alpha", () => {
  it.each(ALPHA_RULES)("by the rule %s, for each module with its own rank", async (alphaRule) => {
    await writeRandomAdapter(parentPath, { modules: everyKindOfModule(8, 4), metadata: PAPER });
    const { outputs } = await run({ all: true }, { alphaRule });
    await using parent = await openAdapter(parentPath);
    const ranks = new Map(parent.modules.map((module) => [module.name, module.rank]));
    for (const { path } of outputs) {
      await using copy = await openAdapter(path);
      expect(copy.dylora).toMatchObject({
        unit: 2,
        alphaRule: alphaRule === "lycoris" ? "paper" : alphaRule,
      });
      for (const { name, rank, alpha } of copy.modules) {
        const exact = extractedAlpha(alphaRule, { alpha: 4, rank: ranks.get(name)!, unit: 2 }, rank);
        expect(alpha).toBe(Math.fround(exact));
      }
    }
  });

  it("is written where the parent has none, and means the parent's rank", async () => {
    await writeRandomAdapter(parentPath, { alpha: null });
    const { outputs } = await run({ ranks: [2] });
    await using copy = await openAdapter(outputs[0]!.path);
    expect(
      copy.modules.every(({ rank, alpha, alphaTensor }) => rank === 2 && alpha === 8 && alphaTensor !== null),
    ).toBe(true);
  });

  it("does not change the order of what is written beside it", async () => {
    // alpha · sqrt(b / R) is exact in float16 at rank 2 and 8 and float32 at 4 and 6: it moves to the front of the file.
    await writeRandomAdapter(parentPath, { metadata: DYLORA });
    const { outputs } = await run({ ranks: [2, 4, 6, 8] });
    await using parent = await openAdapter(parentPath);
    const dtypes: (string | undefined)[] = [];
    for (const { rank, path } of outputs) {
      await using copy = await openAdapter(path);
      await expectPrefix(parent, copy, rank);
      dtypes.push(copy.modules[0]!.alphaTensor?.dtype);
    }
    expect(dtypes).toEqual(["F16", "F32", "F32", "F16"]);
  });
});

describe("the report says what was assumed", () => {
  it.each([
    [
      "no metadata",
      null,
      "assumed",
      "paper",
      "The file has no metadata: unit 1 and the paper's alpha rule (alpha stays) are assumed.",
    ],
    [
      "no DyLoRA",
      { ss_network_module: "networks.lora" },
      "assumed",
      "paper",
      "does not say that it is a DyLoRA",
    ],
    [
      "sd-scripts",
      DYLORA,
      "trainer",
      "sd-scripts",
      "was trained with networks.dylora: its alpha rule, sd-scripts, is used",
    ],
    ["ours", PAPER, "metadata", "paper", null],
    [
      "odd metadata",
      { ...DYLORA, ss_network_args: '{"unit": "3", "alpha_rule": "keep"}' },
      "metadata",
      "keep",
      "Metadata: the largest rank, 8, is no multiple of unit 3.",
    ],
    [
      "other ranks",
      { ...DYLORA, ss_network_args: '{"unit": "2", "alpha_rule": "paper", "ranks": "2,4"}' },
      "metadata",
      "paper",
      "Not among the ranks that were trained (2, 4): 8.",
    ],
  ] as const)("%s", async (_, metadata, alphaRuleSource, alphaRule, note) => {
    await writeRandomAdapter(parentPath, { metadata });
    const report = await run({ ranks: [8] });
    expect(report).toMatchObject({
      alphaRule,
      alphaRuleSource,
      parent: { path: parentPath, maxRank: 8, hashMatches: null },
    });
    expect(report.notes).toEqual(note === null ? [] : [expect.stringContaining(note)]);
  });

  it("an alpha rule that was given", async () => {
    await writeRandomAdapter(parentPath);
    expect(await run({ ranks: [4] }, { alphaRule: "keep" })).toMatchObject({
      alphaRule: "keep",
      alphaRuleSource: "option",
      notes: ["The file has no metadata: unit 1 is assumed."],
    });
  });

  it("convolutions that are copied whole", async () => {
    await writeRandomAdapter(parentPath, { modules: everyKindOfModule(8, 4) });
    const { outputs } = await run({ ranks: [4, 6] });
    expect(outputs.map(({ wholeModules }) => wholeModules)).toEqual([0, 2]);
  });

  it("a hash in the parent that is wrong", async () => {
    await writeRandomAdapter(parentPath, { metadata: { ...PAPER, sshs_model_hash: "f".repeat(64) } });
    const { parent, notes } = await run({ ranks: [4] });
    expect(parent.hashMatches).toBe(false);
    expect(notes).toEqual([expect.stringContaining("sshs_model_hash is not the hash of its data")]);
  });

  it("the parent, in the copies", async () => {
    await writeRandomAdapter(parentPath, { metadata: { ...PAPER, ss_output_name: "cat" }, hashes: true });
    const { parent, outputs } = await run({ ranks: [4] });
    await using copy = await openAdapter(outputs[0]!.path);
    expect(copy.metadata).toMatchObject({
      ss_output_name: "cat-r4",
      dylora_parent_hash: parent.dataSha256,
      dylora_parent_rank: "8",
      dylora_alpha_rule: "paper",
    });
    expect(parent.dataSha256).toMatch(/^[0-9a-f]{64}$/);
  });
});

it("leaves the hashes out on request", async () => {
  await writeRandomAdapter(parentPath, { metadata: PAPER, hashes: true });
  await using parent = await openAdapter(parentPath);
  const plan = planExtract(parent, { ranks: [4] }, { outDir, hashes: false });
  const report = await extract(plan);
  expect(report.parent).not.toHaveProperty("dataSha256");
  expect(report.parent.hashMatches).toBe(null);
  expect(report.outputs).toEqual([
    { rank: 4, path: plan.outputs[0]!.path, sizeBytes: plan.outputs[0]!.sizeBytes, wholeModules: 0 },
  ]);
  await using copy = await openAdapter(report.outputs[0]!.path);
  await expectPrefix(parent, copy, 4);
  expect(Object.keys(copy.metadata).filter((key) => key.includes("hash"))).toEqual([]);
  expect(copy.metadata).toMatchObject({ dylora_parent_rank: "8", ss_network_dim: "4" });
});

it("plans without writing: sizes are those of the files", async () => {
  await writeRandomAdapter(parentPath, { metadata: PAPER });
  await using parent = await openAdapter(parentPath);
  const plan = planExtract(parent, { all: true }, { outDir });
  expect(existsSync(outDir)).toBe(false);
  const { outputs } = await extract(plan);
  expect(plan.outputs.map(({ rank, path, sizeBytes }) => ({ rank, path, sizeBytes }))).toEqual(
    outputs.map(({ rank, path, sizeBytes }) => ({ rank, path, sizeBytes })),
  );
});

it("reports progress up to the whole of the parent", async () => {
  await writeRandomAdapter(parentPath);
  const seen: { doneBytes: number; totalBytes: number }[] = [];
  await run({ ranks: [2] }, { onProgress: (progress) => seen.push(progress) });
  expect(seen.length).toBe(16);
  expect(seen.at(-1)!.doneBytes).toBe(seen.at(-1)!.totalBytes);
});
