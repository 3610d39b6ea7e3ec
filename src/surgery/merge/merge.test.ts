import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { fileProducts, weightedSum } from "../../../test/helpers/file-products.js";
import { relativeDifference } from "../../../test/helpers/matrix.js";
import { mergeFiles as merge, type MergePart as Part } from "../../../test/helpers/merge-files.js";
import {
  everyKindOfModule,
  type RandomModule,
  writeRandomAdapter,
} from "../../../test/helpers/random-adapter.js";
import { tempFolder } from "../../../test/helpers/temp-folder.js";
import { openAdapter } from "../../adapter/index.js";
import { SafetensorsFile } from "../../safetensors/index.js";

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
