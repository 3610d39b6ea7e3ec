/** A LoRA out of two checkpoints. The identity: `diff` of a model and the model with a LoRA merged in is that LoRA's product. */
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { openAdapter } from "../src/adapter/index.js";
import { type CheckpointConfigs, openCheckpoint } from "../src/models/checkpoint/index.js";
import type { WritableDtype } from "../src/safetensors/index.js";
import { type DiffOptions, diffCheckpoints } from "../src/surgery/diff/diff.js";
import { leadingSvd } from "../src/surgery/diff/svd.js";
import { planMergeIntoBase, runMergeIntoBase } from "../src/surgery/merge/base.js";
import { fileProducts } from "./helpers/file-products.js";
import { relativeDifference } from "./helpers/matrix.js";
import { randomValues, writeRandomAdapter } from "./helpers/random-adapter.js";
import { modulesForModel, writeRandomDiffusers, writeRandomSingleFile } from "./helpers/random-checkpoint.js";
import { tempFolder } from "./helpers/temp-folder.js";
import { SD1_TINY, SD2_TINY } from "./helpers/tiny-checkpoints.js";

async function mergeInto(base: string, adapterPath: string, out: string): Promise<void> {
  await using adapter = await openAdapter(adapterPath);
  await runMergeIntoBase(await planMergeIntoBase(base, [{ adapter, ratio: 1 }], out));
}

async function withAdapter(
  configs: CheckpointConfigs,
  dtype: WritableDtype,
  write: typeof writeRandomSingleFile | typeof writeRandomDiffusers,
  rank = 4,
) {
  const folder = await tempFolder();
  const at = (name: string) => join(folder, name);
  await write(at("base"), configs, dtype);
  // About as strong as the weights themselves, so that the rounding of the sum stays small beside it.
  await writeRandomAdapter(at("lora.safetensors"), {
    modules: modulesForModel(configs, rank),
    dtype,
    alpha: 8,
    seed: 3,
  });
  await mergeInto(at("base"), at("lora.safetensors"), at("tuned"));
  return {
    folder,
    at,
    base: at("base"),
    tuned: at("tuned"),
    lora: at("lora.safetensors"),
    path: at("diff.safetensors"),
  };
}

describe("the identity", () => {
  test.each([
    ["SD 1 in one float32 file", SD1_TINY, "F32", 1e-5, writeRandomSingleFile],
    ["SD 2 in one float32 file", SD2_TINY, "F32", 1e-5, writeRandomSingleFile],
    ["SD 2 as a float32 diffusers folder", SD2_TINY, "F32", 1e-5, writeRandomDiffusers],
    ["SD 1 in one float16 file", SD1_TINY, "F16", 1e-3, writeRandomSingleFile],
  ] as const)("%s", async (_title, configs, dtype, tolerance, write) => {
    const { base, tuned, lora, path } = await withAdapter(configs, dtype as never, write as never);
    const report = await diffCheckpoints(base, tuned, { path, rank: 4, dtype });
    expect(report).toMatchObject({
      unchangedCount: 0,
      belowMinDiff: [],
      notRepresented: [],
      withinRounding: [],
      unpaired: [],
    });
    const [expected, found] = [await fileProducts(lora), await fileProducts(path)];
    expect([...found.keys()].sort()).toEqual([...expected.keys()].sort());
    for (const [name, product] of expected) {
      expect([name, relativeDifference(found.get(name)!, product)]).toEqual([
        name,
        expect.closeTo(0, -Math.log10(2 * tolerance)),
      ]);
      expect(relativeDifference(found.get(name)!, product)).toBeLessThan(tolerance);
    }
    expect(report.error).toBeLessThan(tolerance);
    await using adapter = await openAdapter(path);
    for (const { alpha, rank } of adapter.modules) expect([alpha, rank]).toEqual([4, 4]);
    expect(adapter.metadata).toMatchObject({
      ss_network_module: "networks.lora",
      ss_network_dim: "4",
      ss_base_model_version: configs === SD1_TINY ? "sd_v1" : "sd_v2",
      "modelspec.title": "diff",
      dylora_diff: expect.stringContaining('"tuned":"tuned"'),
      sshs_model_hash: report.output!.dataSha256,
    });
  });
});

describe("ranks", () => {
  let models: Awaited<ReturnType<typeof withAdapter>>;
  beforeAll(async () => {
    models = await withAdapter(SD1_TINY, "F32", writeRandomSingleFile, 12);
  });
  const diff = (options: Partial<DiffOptions>) =>
    diffCheckpoints(models.base, models.tuned, {
      path: models.path,
      rank: 64,
      dtype: "F32",
      overwrite: true,
      ...options,
    });

  test("too low a rank loses what the report says", async () => {
    const report = await diff({ rank: 5, convRank: 3 });
    const [full, cut] = [await fileProducts(models.lora), await fileProducts(models.path)];
    let [lost, total] = [0, 0];
    for (const { name, error, rank, kind } of report.modules) {
      expect(rank).toBe(kind === "conv3x3" ? 3 : 5);
      const found = relativeDifference(cut.get(name)!, full.get(name)!);
      expect(error! / found).toBeCloseTo(1, 3);
      const norm = Math.hypot(...full.get(name)!);
      lost += (found * norm) ** 2;
      total += norm ** 2;
    }
    expect(report.error).toBeCloseTo(Math.sqrt(lost / total), 4);
  });

  test("by energy: the lowest rank that keeps the share, in every module", async () => {
    const report = await diff({ energy: 0.9 });
    const ranks = report.modules.map(({ rank }) => rank!);
    expect(Math.min(...ranks)).toBeGreaterThan(1);
    expect(Math.max(...ranks)).toBeLessThanOrEqual(12);
    for (const { error } of report.modules) expect(error! ** 2).toBeLessThanOrEqual(0.1 + 1e-9);
    // One component less would not do.
    const lower = await diff({ rank: Math.min(...ranks) - 1, energy: 0.9 });
    for (const { error, rank } of lower.modules) {
      expect(rank).toBe(Math.min(...ranks) - 1);
      expect(error! ** 2).toBeGreaterThan(0.1);
    }
    await using adapter = await openAdapter(models.path);
    expect(adapter.modules.length).toBe(report.modules.length);
  });

  test("never above the smaller side of a layer, where it is exact", async () => {
    const report = await diff({ rank: 1000 });
    for (const { name, kind, inFeatures, outFeatures } of modulesForModel(SD1_TINY, 1)) {
      const { rank } = report.modules.find((module) => module.name === name)!;
      expect(rank).toBe(Math.min(outFeatures, kind === "conv3x3" ? inFeatures * 9 : inFeatures));
    }
    expect(report.error).toBeLessThan(1e-6);
  });

  test("the same input gives the same bytes", async () => {
    const date = new Date(0);
    await diff({ rank: 3, date });
    const first = await readFile(models.path);
    await diff({ rank: 3, date });
    expect(Buffer.compare(await readFile(models.path), first)).toBe(0);
  });
});

describe("nothing is dropped silently", () => {
  test("what no LoRA can hold is listed, with how much it changed", async () => {
    const folder = await tempFolder();
    const [base, tuned, path] = ["base", "tuned", "diff"].map((name) =>
      join(folder, `${name}.safetensors`),
    ) as [string, string, string];
    await writeRandomSingleFile(base, SD1_TINY, "F32");
    await writeFile(tuned, await readFile(base));
    const { unet, textEncoder, vae } = await openCheckpoint(tuned);
    const bytes = await readFile(tuned);
    const change = (weights: typeof unet.weights, name: string, by: number) => {
      const { offsetBytes } = weights.get(name)!;
      bytes.writeFloatLE(bytes.readFloatLE(offsetBytes) + by, offsetBytes);
    };
    change(unet.weights, "conv_in.weight", 0.5);
    change(unet.weights, "mid_block.resnets.0.norm1.weight", 0.5);
    change(unet.weights, "mid_block.attentions.0.proj_in.bias", 0.5);
    change(textEncoder.weights, "text_model.embeddings.token_embedding.weight", 0.5);
    change(vae!.weights, "decoder.conv_in.weight", 0.5);
    await writeFile(tuned, bytes);
    await expect(diffCheckpoints(base, tuned, { path, rank: 4 })).rejects.toMatchObject({
      code: "E_INCOMPATIBLE",
      message: expect.stringContaining("only weights differ that a LoRA cannot hold"),
    });
    change(unet.weights, "mid_block.attentions.0.proj_in.weight", 0.5);
    change(textEncoder.weights, "text_model.encoder.layers.0.mlp.fc1.weight", 1e-4);
    await writeFile(tuned, bytes);
    const report = await diffCheckpoints(base, tuned, { path, rank: 4, minDiff: 1e-3 });
    expect(report.notRepresented.map(({ part, name }) => `${part} ${name}`)).toEqual([
      "unet conv_in.weight",
      "unet mid_block.attentions.0.proj_in.bias",
      "unet mid_block.resnets.0.norm1.weight",
      "text_encoder text_model.embeddings.token_embedding.weight",
      "vae decoder.conv_in.weight",
    ]);
    for (const { maxAbs, relativeChange } of report.notRepresented) {
      expect(maxAbs).toBeCloseTo(0.5, 5);
      expect(relativeChange).toBeGreaterThan(0);
    }
    // Beside the one module: three weights of the U-Net and one of the text encoder, each by 0.5; the VAE is no part of it.
    expect(report.unheldShare).toBeCloseTo(Math.sqrt(4 / 5), 6);
    expect(report.belowMinDiff).toMatchObject([{ name: "text_model.encoder.layers.0.mlp.fc1.weight" }]);
    expect(report.modules.map(({ name }) => name)).toEqual(["lora_unet_mid_block_attentions_0_proj_in"]);
    const all = await diffCheckpoints(base, tuned, { path, rank: 4, overwrite: true });
    expect(all.belowMinDiff).toEqual([]);
    expect(all.modules.map(({ name }) => name)).toEqual([
      "lora_unet_mid_block_attentions_0_proj_in",
      "lora_te_text_model_encoder_layers_0_mlp_fc1",
    ]);
  });

  test("a model in float16 and the same in float32: every change may be rounding, and that is said", async () => {
    const folder = await tempFolder();
    const [base, tuned] = [join(folder, "base.safetensors"), join(folder, "tuned")];
    await writeRandomSingleFile(base, SD1_TINY, "F16");
    await writeRandomDiffusers(tuned, SD1_TINY, "F32");
    const single = join(folder, "single.safetensors");
    await writeRandomSingleFile(single, SD1_TINY, "F32");
    const report = await diffCheckpoints(base, single, {
      path: join(folder, "x.safetensors"),
      rank: 4,
      dryRun: true,
    });
    expect(report.output).toBeNull();
    expect(report.withinRounding.length).toBe(report.modules.length);
    // The U-Net of the folder has other weights, and the folder has no VAE.
    const other = await diffCheckpoints(base, tuned, {
      path: join(folder, "x.safetensors"),
      rank: 4,
      dryRun: true,
    });
    expect(other.withinRounding.filter(({ part }) => part === "unet")).toEqual([]);
    expect(other.unpaired).toEqual(["vae"]);
    expect((await readdir(folder)).sort()).toEqual(["base.safetensors", "single.safetensors", "tuned"]);
  });
});

describe("what it refuses, with nothing written", () => {
  test("models of different structure, the same model, numbers that are none", async () => {
    const folder = await tempFolder();
    const [sd1, sd2, path] = ["sd1", "sd2", "diff"].map((name) => join(folder, `${name}.safetensors`)) as [
      string,
      string,
      string,
    ];
    await writeRandomSingleFile(sd1, SD1_TINY, "F16");
    await writeRandomSingleFile(sd2, SD2_TINY, "F16");
    const refusal = (code: string, message: string) => ({ code, message: expect.stringContaining(message) });
    await expect(diffCheckpoints(sd1, sd2, { path, rank: 4 })).rejects.toMatchObject(
      refusal("E_INCOMPATIBLE", "one is Stable Diffusion 1.x, the other Stable Diffusion 2.x"),
    );
    await expect(diffCheckpoints(sd1, sd1, { path, rank: 4 })).rejects.toMatchObject(
      refusal("E_INCOMPATIBLE", "the same weights"),
    );
    const wide = join(folder, "wide.safetensors");
    const unet = { ...SD1_TINY.unet, blockOutChannels: [32, 96] };
    await writeRandomSingleFile(wide, { ...SD1_TINY, unet }, "F16");
    await expect(diffCheckpoints(sd1, wide, { path, rank: 4 })).rejects.toMatchObject(
      refusal("E_INCOMPATIBLE", "is ["),
    );
    await expect(diffCheckpoints(sd1, sd2, { path, rank: 0 })).rejects.toMatchObject({ code: "E_RANK" });
    await expect(diffCheckpoints(sd1, sd2, { path, rank: 4, energy: 1.5 })).rejects.toMatchObject({
      code: "E_USAGE",
    });
    await expect(diffCheckpoints(sd1, sd2, { path: sd2, rank: 4, overwrite: true })).rejects.toMatchObject({
      code: "E_EXISTS",
    });
    await expect(
      diffCheckpoints(sd1, wide, { path, rank: 4, signal: AbortSignal.abort() }),
    ).rejects.toMatchObject({ code: expect.stringMatching(/E_INTERRUPTED|E_INCOMPATIBLE/) });
    expect((await readdir(folder)).sort()).toEqual([
      "sd1.safetensors",
      "sd2.safetensors",
      "wide.safetensors",
    ]);
  });

  test("an interrupted one", async () => {
    const { base, tuned, path, folder } = await withAdapter(SD1_TINY, "F16", writeRandomSingleFile);
    const before = await readdir(folder);
    const controller = new AbortController();
    const diffing = diffCheckpoints(base, tuned, {
      path,
      rank: 4,
      signal: controller.signal,
      onProgress: (progress) => {
        if (progress.phase === "decompose" && progress.doneModules === 5) controller.abort();
      },
    });
    await expect(diffing).rejects.toMatchObject({ code: "E_INTERRUPTED" });
    expect(await readdir(folder)).toEqual(before);
  });
});

describe("leadingSvd", () => {
  test.each([
    [40, 300],
    [300, 40],
    [200, 200],
    [1, 50],
  ])(
    "a random %i x %i matrix with a slow tail: within a percent of the best approximation",
    (rows, columns) => {
      const values = randomValues(rows * columns, rows);
      const rank = 12;
      const svd = leadingSvd(values, rows, columns, rank, "test");
      const most = Math.min(rank, rows, columns);
      const { down, upT } = svd.truncate(most);
      const approximation = new Float64Array(values.length);
      for (let k = 0; k < most; k++) {
        for (let i = 0; i < rows; i++) {
          for (let j = 0; j < columns; j++)
            approximation[i * columns + j]! += upT[k * rows + i]! * down[k * columns + j]!;
        }
      }
      const exact = leadingSvd(values, rows, columns, Math.min(rows, columns), "exact").singularValues;
      const best = Math.hypot(...exact.slice(most)) / Math.hypot(...exact);
      expect(Math.hypot(...exact)).toBeCloseTo(Math.hypot(...values), 6);
      expect(relativeDifference(approximation, values)).toBeLessThanOrEqual(best * 1.01 + 1e-6);
      expect(relativeDifference(approximation, values)).toBeGreaterThanOrEqual(best * (1 - 1e-6) - 1e-6);
    },
  );
});
