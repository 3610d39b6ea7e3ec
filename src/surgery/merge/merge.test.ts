import { mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { fileProducts, weightedSum } from "../../../test/helpers/file-products.js";
import { relativeDifference } from "../../../test/helpers/matrix.js";
import {
  everyKindOfModule,
  type RandomModule,
  writeRandomAdapter,
} from "../../../test/helpers/random-adapter.js";
import { tempFolder } from "../../../test/helpers/temp-folder.js";
import { openAdapter } from "../../adapter/index.js";
import { SafetensorsFile } from "../../safetensors/index.js";
import { parseBlockWeights } from "./block-weights.js";
import { type MergeOptions, type MergeReport, planMerge, runMerge } from "./merge.js";

interface Part {
  readonly path: string;
  readonly ratio: number;
  readonly blockWeights?: string;
}

async function merge(
  parts: readonly Part[],
  options: MergeOptions & { overwrite?: boolean; signal?: AbortSignal },
): Promise<MergeReport> {
  const adapters = await Promise.all(parts.map(({ path }) => openAdapter(path)));
  try {
    const inputs = parts.map(({ ratio, blockWeights }, i) => ({
      adapter: adapters[i]!,
      ratio,
      blockWeights: blockWeights === undefined ? null : parseBlockWeights(blockWeights),
    }));
    const { overwrite, signal } = options;
    const report = await runMerge(planMerge(inputs, options), {
      ...(overwrite === undefined ? {} : { overwrite }),
      ...(signal === undefined ? {} : { signal }),
    });
    expect((await readFile(options.path)).length).toBe(report.sizeBytes);
    return report;
  } finally {
    for (const adapter of adapters) await adapter.close();
  }
}

describe("a merge by concatenation is the weighted sum of the products", () => {
  test("for random ratios, ranks and alphas, of every kind of module", async () => {
    const folder = await tempFolder();
    const parts = fc.record({
      ratio: fc.double({ min: -2, max: 2, noNaN: true }).filter((ratio) => Math.abs(ratio) > 1e-3),
      rank: fc.integer({ min: 1, max: 9 }),
      convRank: fc.integer({ min: 1, max: 5 }),
      alpha: fc.constantFrom(null, 1, 0.37, 4, 16, -1),
      seed: fc.integer({ min: 1, max: 1000 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(parts, { minLength: 1, maxLength: 4 }), async (adapters) => {
        const files: Part[] = [];
        for (const [i, { ratio, rank, convRank, alpha, seed }] of adapters.entries()) {
          const path = join(folder, `${i}.safetensors`);
          await writeRandomAdapter(path, {
            modules: everyKindOfModule(rank, convRank),
            alpha,
            seed,
            dtype: "F32",
          });
          files.push({ path, ratio });
        }
        const path = join(folder, "sum.safetensors");
        const report = await merge(files, { path, overwrite: true });
        expect(report).toMatchObject({ dtype: "F32", worstRounding: 0 });
        const products = await Promise.all(files.map((file) => fileProducts(file.path)));
        for (const [name, found] of await fileProducts(path)) {
          const expected = weightedSum(files.map(({ ratio }, i) => [ratio, products[i]!.get(name)!]));
          // Float32 factors, products in float64: two roundings of 6e-8 each; terms may cancel to a hundredth.
          expect(relativeDifference(found, expected)).toBeLessThan(
            1e-6 * cancellation(files, products, name, expected),
          );
        }
      }),
      { numRuns: 15 },
    );
  });

  test("in float16 the loss is measured and stays below the type's precision", async () => {
    const folder = await tempFolder();
    const [a, b] = [join(folder, "a.safetensors"), join(folder, "b.safetensors")];
    await writeRandomAdapter(a, { modules: everyKindOfModule(4), seed: 1 });
    await writeRandomAdapter(b, { modules: everyKindOfModule(8), seed: 50, alpha: 3 });
    const path = join(folder, "sum.safetensors");
    const files = [
      { path: a, ratio: 0.7 },
      { path: b, ratio: -0.45 },
    ];
    const report = await merge(files, { path });
    expect(report.dtype).toBe("F16");
    expect(report.worstRounding).toBeGreaterThan(0);
    expect(report.worstRounding).toBeLessThan(2 ** -11);
    const products = [await fileProducts(a), await fileProducts(b)];
    for (const [name, found] of await fileProducts(path)) {
      const expected = weightedSum(files.map(({ ratio }, i) => [ratio, products[i]!.get(name)!]));
      expect(relativeDifference(found, expected)).toBeLessThan(2 * report.worstRounding);
    }
  });

  test("equal strengths leave the bytes of every factor as they are", async () => {
    const folder = await tempFolder();
    const [a, b] = [join(folder, "a.safetensors"), join(folder, "b.safetensors")];
    await writeRandomAdapter(a, { seed: 1 });
    await writeRandomAdapter(b, { seed: 50 });
    const path = join(folder, "sum.safetensors");
    const ratio = 0.3;
    const report = await merge(
      [
        { path: a, ratio },
        { path: b, ratio },
      ],
      { path },
    );
    expect(report).toMatchObject({ worstRounding: 0, ranks: [16, 16] });
    await using merged = await SafetensorsFile.open(path);
    await using first = await SafetensorsFile.open(a);
    const name = "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight";
    const bytes = await first.read(name);
    expect(Buffer.compare(await merged.readRange(name, 0, bytes.length), bytes)).toBe(0);
  });

  test("an adapter minus itself is nothing", async () => {
    const folder = await tempFolder();
    const a = join(folder, "a.safetensors");
    await writeRandomAdapter(a);
    const path = join(folder, "zero.safetensors");
    await merge(
      [
        { path: a, ratio: 1 },
        { path: a, ratio: -1 },
      ],
      { path },
    );
    for (const product of (await fileProducts(path)).values()) {
      expect(product.every((value) => value === 0)).toBe(true);
    }
  });

  test("modules that only one adapter has are taken over with their strength", async () => {
    const folder = await tempFolder();
    const [a, b] = [join(folder, "a.safetensors"), join(folder, "b.safetensors")];
    const modules = everyKindOfModule(4);
    await writeRandomAdapter(a, { modules: modules.slice(0, 5) });
    await writeRandomAdapter(b, { modules: modules.slice(3), seed: 9 });
    const path = join(folder, "sum.safetensors");
    const report = await merge(
      [
        { path: a, ratio: 0.5 },
        { path: b, ratio: 2 },
      ],
      { path, dtype: "F32" },
    );
    expect(report).toMatchObject({ moduleCount: 8, ranks: [4, 8] });
    const [inA, inB, sum] = [await fileProducts(a), await fileProducts(b), await fileProducts(path)];
    const [onlyA, onlyB] = [modules[0]!.name, modules.at(-1)!.name];
    expect(relativeDifference(sum.get(onlyA)!, weightedSum([[0.5, inA.get(onlyA)!]]))).toBeLessThan(1e-6);
    expect(relativeDifference(sum.get(onlyB)!, weightedSum([[2, inB.get(onlyB)!]]))).toBeLessThan(1e-6);
  });
});

describe("a merge to a rank", () => {
  test("is the best approximation of the sum, and says what it cost", async () => {
    const folder = await tempFolder();
    const [a, b] = [join(folder, "a.safetensors"), join(folder, "b.safetensors")];
    await writeRandomAdapter(a, { modules: everyKindOfModule(6, 3), seed: 1, dtype: "F32" });
    await writeRandomAdapter(b, { modules: everyKindOfModule(4, 2), seed: 50, dtype: "F32" });
    const parts = [
      { path: a, ratio: 0.8 },
      { path: b, ratio: -0.5 },
    ];
    const [exact, cut] = [join(folder, "exact.safetensors"), join(folder, "cut.safetensors")];
    await merge(parts, { path: exact });
    const report = await merge(parts, { path: cut, rank: 7, convRank: 2 });
    expect(report.ranks).toEqual([2, 7]);
    const [sums, approximations] = [await fileProducts(exact), await fileProducts(cut)];
    let worst = 0;
    for (const { name, outFeatures, kind } of everyKindOfModule(1)) {
      const error = relativeDifference(approximations.get(name)!, sums.get(name)!);
      if (name.endsWith("conv_shortcut")) {
        // Rank 3 + 2: nothing to cut off.
        expect(error).toBeLessThan(1e-6);
        continue;
      }
      // The tail of the singular values, computed from the dense product.
      const values = singularValues(sums.get(name)!, outFeatures);
      const tail = Math.hypot(...values.slice(kind === "conv3x3" ? 2 : 7)) / Math.hypot(...values);
      expect(error / tail).toBeCloseTo(1, 4);
      worst = Math.max(worst, error);
    }
    expect(report.worstTruncation!.error).toBeCloseTo(worst, 5);
    await using merged = await openAdapter(cut);
    for (const { alpha, rank, name } of merged.modules) {
      if (!name.endsWith("conv_shortcut")) expect(alpha).toBe(rank);
    }
  });

  test("leaves modules below it exact", async () => {
    const folder = await tempFolder();
    const a = join(folder, "a.safetensors");
    await writeRandomAdapter(a, { modules: everyKindOfModule(6, 3) });
    const path = join(folder, "b.safetensors");
    const report = await merge([{ path: a, ratio: 1 }], { path, rank: 6 });
    expect(report).toMatchObject({ worstTruncation: null, worstRounding: 0, ranks: [3, 6] });
    await expect(merge([{ path: a, ratio: 1 }], { path, rank: 0, overwrite: true })).rejects.toMatchObject({
      code: "E_RANK",
    });
  });
});

/** Of a dense matrix, descending, by Jacobi rotations of its rows: slow and simple. */
function singularValues(matrix: Float64Array, rowCount: number): number[] {
  const columns = matrix.length / rowCount;
  const rows = Array.from({ length: rowCount }, (_, i) => matrix.slice(i * columns, (i + 1) * columns));
  const dot = (x: Float64Array, y: Float64Array) => x.reduce((sum, value, i) => sum + value * y[i]!, 0);
  for (let sweep = 0; sweep < 30; sweep++) {
    let turned = false;
    for (const [i, x] of rows.entries()) {
      for (const y of rows.slice(i + 1)) {
        const [xx, yy, xy] = [dot(x, x), dot(y, y), dot(x, y)];
        if (Math.abs(xy) <= 1e-14 * Math.sqrt(xx * yy)) continue;
        turned = true;
        const angle = Math.atan2(2 * xy, xx - yy) / 2;
        const [c, s] = [Math.cos(angle), Math.sin(angle)];
        for (let k = 0; k < columns; k++) {
          const [p, q] = [x[k]!, y[k]!];
          x[k] = c * p + s * q;
          y[k] = c * q - s * p;
        }
      }
    }
    if (!turned) break;
  }
  return rows.map((row) => Math.sqrt(dot(row, row))).sort((p, q) => q - p);
}

/** How much larger the parts are than their sum. */
function cancellation(
  files: readonly Part[],
  products: readonly Map<string, Float64Array>[],
  name: string,
  sum: Float64Array,
): number {
  const norm = (values: Float64Array) => Math.hypot(...values);
  const parts = files.reduce(
    (total, { ratio }, i) => total + Math.abs(ratio) * norm(products[i]!.get(name)!),
    0,
  );
  return parts / norm(sum);
}

describe("types", () => {
  test.each([
    ["F16", "F16", "F16"],
    ["BF16", "BF16", "BF16"],
    ["F16", "BF16", "F32"],
    ["F16", "F32", "F32"],
  ] as const)("%s and %s make %s", async (first, second, expected) => {
    const folder = await tempFolder();
    const [a, b] = [join(folder, "a.safetensors"), join(folder, "b.safetensors")];
    await writeRandomAdapter(a, { dtype: first });
    await writeRandomAdapter(b, { dtype: second });
    const path = join(folder, "sum.safetensors");
    expect(
      (
        await merge(
          [
            { path: a, ratio: 1 },
            { path: b, ratio: 1 },
          ],
          { path },
        )
      ).dtype,
    ).toBe(expected);
  });

  test("a 1x1 convolution in two dimensions is the same module as one in four", async () => {
    const folder = await tempFolder();
    const [a, b] = [join(folder, "a.safetensors"), join(folder, "b.safetensors")];
    const module: RandomModule = {
      name: "lora_unet_mid_block_attentions_0_proj_in",
      kind: "conv1x1",
      rank: 2,
      inFeatures: 8,
      outFeatures: 6,
    };
    await writeRandomAdapter(a, { modules: [module] });
    await writeRandomAdapter(b, { modules: [{ ...module, kind: "linear" }] });
    const path = join(folder, "sum.safetensors");
    await merge(
      [
        { path: a, ratio: 1 },
        { path: b, ratio: 1 },
      ],
      { path },
    );
    await using merged = await openAdapter(path);
    expect(merged.modules[0]).toMatchObject({ kind: "conv1x1", rank: 4, down: { shape: [4, 8, 1, 1] } });
  });
});

describe("metadata", () => {
  test("is the first adapter's, with the network put right and the parents named", async () => {
    const folder = await tempFolder();
    const [a, b] = [join(folder, "cat.safetensors"), join(folder, "dog.safetensors")];
    await writeRandomAdapter(a, {
      hashes: true,
      metadata: {
        ss_network_module: "networks.dylora",
        ss_network_dim: "8",
        ss_network_alpha: "4.0",
        ss_network_args: '{"unit": "2"}',
        ss_tag_frequency: '{"cat": 3}',
        ss_output_name: "cat",
        dylora_parent_hash: "f".repeat(64),
        "modelspec.title": "cat",
        "modelspec.hash_sha256": "0xdead",
      },
    });
    await writeRandomAdapter(b, {
      metadata: { ss_base_model_version: "sd_v1", ss_tag_frequency: '{"dog": 1}' },
    });
    const path = join(folder, "both.safetensors");
    const report = await merge(
      [
        { path: a, ratio: 0.5 },
        { path: b, ratio: -1, blockWeights: "OUT=0.5" },
      ],
      { path, date: new Date(2026, 0, 2) },
    );
    await using merged = await openAdapter(path);
    const { metadata } = merged;
    expect(metadata).toMatchObject({
      ss_network_module: "networks.lora",
      ss_network_dim: "16",
      ss_network_alpha: "8.0",
      ss_tag_frequency: '{"cat": 3}',
      ss_base_model_version: "sd_v1",
      ss_output_name: "both",
      "modelspec.title": "both",
      "modelspec.merged_from": "cat, dog",
      sshs_model_hash: report.dataSha256,
    });
    expect(metadata).not.toHaveProperty("dylora_parent_hash");
    expect(metadata).not.toHaveProperty("modelspec.hash_sha256");
    expect(merged.dylora.isDylora).toBe(false);
    const parents = JSON.parse(metadata.dylora_merged_from!);
    expect(parents).toMatchObject([
      { name: "cat", ratio: 0.5, sshs_model_hash: report.inputs[0]!.dataSha256 },
      { name: "dog", ratio: -1, blockWeights: { OUT03: 0.5 }, sshs_model_hash: report.inputs[1]!.dataSha256 },
    ]);
    await using first = await openAdapter(a);
    expect(report.inputs[0]!.dataSha256).toBe(first.metadata.sshs_model_hash);
    expect(JSON.parse(metadata.ss_network_args!)).toEqual({ conv_dim: "16", conv_alpha: "8.0" });
  });

  test("says nothing of one rank, or of a parent's unit, where modules have several", async () => {
    const folder = await tempFolder();
    const a = join(folder, "cat.safetensors");
    await writeRandomAdapter(a, {
      modules: everyKindOfModule(8, 4),
      metadata: { ss_network_dim: "8", ss_network_args: '{"unit": "2"}' },
    });
    const path = join(folder, "both.safetensors");
    await merge([{ path: a, ratio: 0.5 }], { path });
    await using merged = await openAdapter(path);
    expect(merged.metadata).toMatchObject({ ss_network_dim: "Dynamic", ss_network_alpha: "2.0" });
    expect(merged.metadata).not.toHaveProperty("ss_network_args");
  });
});

describe("block weights", () => {
  const scaleOf = async (text: string, name: string) => {
    const folder = await tempFolder();
    const a = join(folder, "a.safetensors");
    const module: RandomModule = { name, kind: "linear", rank: 2, inFeatures: 8, outFeatures: 6, alpha: 2 };
    const other: RandomModule = { ...module, name: "lora_unet_time_embedding_linear_1" };
    await writeRandomAdapter(a, { modules: [module, other], dtype: "F32" });
    const path = join(folder, "sum.safetensors");
    await merge([{ path: a, ratio: 1, blockWeights: text }], { path });
    const product = (await fileProducts(path)).get(name);
    const before = (await fileProducts(a)).get(name)!;
    return product === undefined ? 0 : product[0]! / before[0]!;
  };
  const list = (length: number) => Array.from({ length }, (_, i) => i / 32).join(",");
  const transformer = "transformer_blocks_0_attn1_to_q";

  test.each([
    // 17: BASE, IN01, IN02, IN04, IN05, IN07, IN08, M00, OUT03-OUT11.
    [17, "lora_te_text_model_encoder_layers_3_mlp_fc1", 0],
    [17, `lora_unet_down_blocks_0_attentions_0_${transformer}`, 1],
    [17, `lora_unet_down_blocks_0_attentions_1_${transformer}`, 2],
    [17, `lora_unet_down_blocks_1_attentions_0_${transformer}`, 3],
    [17, `lora_unet_down_blocks_2_attentions_1_${transformer}`, 6],
    [17, `lora_unet_mid_block_attentions_0_${transformer}`, 7],
    [17, `lora_unet_up_blocks_1_attentions_0_${transformer}`, 8],
    [17, `lora_unet_up_blocks_3_attentions_2_${transformer}`, 16],
    // 26: BASE, IN00-IN11, M00, OUT00-OUT11.
    [26, "lora_unet_down_blocks_0_downsamplers_0_conv", 4],
    [26, "lora_unet_down_blocks_3_resnets_1_conv1", 12],
    [26, "lora_unet_mid_block_resnets_0_conv1", 13],
    [26, "lora_unet_up_blocks_0_resnets_0_conv1", 14],
    [26, "lora_unet_up_blocks_0_upsamplers_0_conv", 16],
    [26, "lora_unet_up_blocks_3_resnets_2_conv2", 25],
    // 12 and 20: SDXL under its original names.
    [12, "lora_te2_text_model_encoder_layers_3_mlp_fc1", 0],
    [12, `lora_unet_input_blocks_4_1_${transformer}`, 1],
    [12, `lora_unet_input_blocks_8_1_${transformer}`, 4],
    [12, `lora_unet_middle_block_1_${transformer}`, 5],
    [12, `lora_unet_output_blocks_0_1_${transformer}`, 6],
    [12, `lora_unet_output_blocks_5_1_${transformer}`, 11],
    [20, "lora_unet_input_blocks_3_0_op", 4],
    [20, "lora_unet_output_blocks_8_0_in_layers_2", 19],
  ])("value of a list of %i for %s is number %i", async (length, name, index) => {
    expect(await scaleOf(list(length), name)).toBeCloseTo(index / 32, 6);
  });

  test("names and groups, later ones winning; everything else keeps weight 1", async () => {
    const text = "OUT=0.5, out04=0.25,TE=0,MID=-1";
    expect(await scaleOf(text, `lora_unet_up_blocks_1_attentions_0_${transformer}`)).toBeCloseTo(0.5);
    expect(await scaleOf(text, `lora_unet_up_blocks_1_attentions_1_${transformer}`)).toBeCloseTo(0.25);
    expect(await scaleOf(text, "lora_te_text_model_encoder_layers_3_mlp_fc1")).toBe(0);
    expect(await scaleOf(text, `lora_unet_mid_block_attentions_0_${transformer}`)).toBeCloseTo(-1);
    expect(await scaleOf(text, `lora_unet_down_blocks_0_attentions_0_${transformer}`)).toBe(1);
    expect(await scaleOf("0.75", "lora_te_text_model_encoder_layers_3_mlp_fc1")).toBeCloseTo(0.75);
  });

  test("a block that the list does not name keeps its strength, and that is said", async () => {
    const folder = await tempFolder();
    const a = join(folder, "a.safetensors");
    const modules: RandomModule[] = [
      {
        name: "lora_unet_down_blocks_0_downsamplers_0_conv",
        kind: "conv3x3",
        rank: 2,
        inFeatures: 4,
        outFeatures: 4,
      },
    ];
    await writeRandomAdapter(a, { modules });
    const path = join(folder, "b.safetensors");
    const blockWeights = new Array(17).fill(0).join(",");
    const report = await merge([{ path: a, ratio: 1, blockWeights }], { path });
    expect(report.notes).toEqual([expect.stringContaining("(IN03): they keep weight 1")]);
    // Who names blocks knows which ones are not named.
    const named = await merge([{ path: a, ratio: 1, blockWeights: "TE=0" }], { path, overwrite: true });
    expect(named.notes).toEqual([]);
  });

  test.each([
    ["1,2,3", "3 values in 1,2,3"],
    ["IN=x", '"x" is no number'],
    ["1,,1", '"" is no number'],
    ["IN99=1", "there is no block IN99"],
    ["OUT=1,0.5", "0.5 is no BLOCK=value pair"],
    ["constructor=1", "there is no block constructor"],
  ])("%s is refused", (text, message) => {
    expect(() => parseBlockWeights(text)).toThrow(expect.objectContaining({ code: "E_USAGE" }));
    expect(() => parseBlockWeights(text)).toThrow(message);
  });
});

describe("what it refuses, with nothing written", () => {
  async function twoAdapters() {
    const folder = await tempFolder();
    const a = join(folder, "a.safetensors");
    await writeRandomAdapter(a);
    return { folder, a, path: join(folder, "sum.safetensors") };
  }

  test("ratios of 0 and block weights that leave nothing", async () => {
    const { folder, a, path } = await twoAdapters();
    await expect(merge([{ path: a, ratio: 0 }], { path })).rejects.toMatchObject({ code: "E_USAGE" });
    await expect(merge([{ path: a, ratio: Number.NaN }], { path })).rejects.toMatchObject({
      code: "E_USAGE",
    });
    await expect(merge([{ path: a, ratio: 1e-300 }], { path })).rejects.toMatchObject({ code: "E_USAGE" });
    await expect(merge([], { path })).rejects.toMatchObject({ code: "E_USAGE" });
    expect(await readdir(folder)).toEqual(["a.safetensors"]);
  });

  test("adapters of different base models", async () => {
    const { folder, a, path } = await twoAdapters();
    const b = join(folder, "b.safetensors");
    const modules = everyKindOfModule(4).map((module) => ({
      ...module,
      inFeatures: module.inFeatures === 768 ? 1024 : module.inFeatures,
    }));
    await writeRandomAdapter(b, { modules });
    await expect(
      merge(
        [
          { path: a, ratio: 1 },
          { path: b, ratio: 1 },
        ],
        { path },
      ),
    ).rejects.toMatchObject({
      code: "E_INCOMPATIBLE",
      message: expect.stringContaining("made for Stable Diffusion 1.x"),
    });
    const modulesOfOtherWidth = everyKindOfModule(4).map((module) => ({ ...module, outFeatures: 99 }));
    await writeRandomAdapter(b, { modules: modulesOfOtherWidth });
    await expect(
      merge(
        [
          { path: a, ratio: 1 },
          { path: b, ratio: 1 },
        ],
        { path },
      ),
    ).rejects.toMatchObject({
      code: "E_INCOMPATIBLE",
      message: expect.stringContaining("-> 99"),
    });
    expect((await readdir(folder)).sort()).toEqual(["a.safetensors", "b.safetensors"]);
  });

  test("an existing file without overwrite, and an input even with it", async () => {
    const { folder, a, path } = await twoAdapters();
    await writeFile(path, "mine");
    await expect(merge([{ path: a, ratio: 1 }], { path })).rejects.toMatchObject({ code: "E_EXISTS" });
    const before = await readFile(a);
    const link = join(folder, "link.safetensors");
    await symlink(a, link);
    for (const target of [a, link]) {
      const merging = merge([{ path: a, ratio: 2 }], { path: target, overwrite: true });
      await expect(merging).rejects.toMatchObject({ code: "E_EXISTS" });
    }
    expect(Buffer.compare(await readFile(a), before)).toBe(0);
    expect(await readFile(path, "utf8")).toBe("mine");
  });

  test("a number that the type cannot hold", async () => {
    const { folder, a, path } = await twoAdapters();
    const big = join(folder, "big.safetensors");
    await mkdir(join(folder, "out"));
    const module: RandomModule = {
      name: "lora_unet_mid_block_attentions_0_proj_in",
      kind: "linear",
      rank: 1,
      inFeatures: 4,
      outFeatures: 4,
    };
    const { writeSafetensors } = await import("../../safetensors/index.js");
    const values = new Float32Array(4).fill(1e6);
    await writeSafetensors(big, [
      {
        name: `${module.name}.lora_down.weight`,
        dtype: "F32",
        shape: [1, 4],
        data: () => new Uint8Array(values.buffer),
      },
      {
        name: `${module.name}.lora_up.weight`,
        dtype: "F32",
        shape: [4, 1],
        data: () => new Uint8Array(values.buffer),
      },
    ]);
    const merging = merge(
      [
        { path: a, ratio: 1 },
        { path: big, ratio: 1 },
      ],
      { path, dtype: "F16" },
    );
    await expect(merging).rejects.toMatchObject({ code: "E_INCOMPATIBLE" });
    expect((await readdir(folder)).sort()).toEqual(["a.safetensors", "big.safetensors", "out"]);
  });

  test("an interrupted merge", async () => {
    const { folder, a, path } = await twoAdapters();
    const merging = merge([{ path: a, ratio: 1 }], { path, signal: AbortSignal.abort() });
    await expect(merging).rejects.toMatchObject({ code: "E_INTERRUPTED" });
    expect(await readdir(folder)).toEqual(["a.safetensors"]);
  });
});
