import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { adapterProducts } from "../../../test/helpers/adapter-product.js";
import {
  formulaMatrix,
  multiply,
  norm,
  randomMatrix,
  relativeDifference,
} from "../../../test/helpers/matrix.js";
import {
  everyKindOfModule,
  type RandomAdapterOptions,
  type RandomModule,
  writeRandomAdapter,
} from "../../../test/helpers/random-adapter.js";
import { tempFolder } from "../../../test/helpers/temp-folder.js";
import { openAdapter } from "../../adapter/index.js";
import { compareProducts } from "../svd/compare-products.js";
import { compareAdapters } from "./compare.js";

async function twoAdapters(a: RandomAdapterOptions, b: RandomAdapterOptions) {
  const folder = await tempFolder();
  const paths = ["a", "b"].map((name) => join(folder, `${name}.safetensors`)) as [string, string];
  await writeRandomAdapter(paths[0], { dtype: "F32", ...a });
  await writeRandomAdapter(paths[1], { dtype: "F32", ...b });
  return Promise.all(paths.map((path) => openAdapter(path)));
}

const inner = (a: Float64Array, b: Float64Array) => a.reduce((sum, value, k) => sum + value * b[k]!, 0);

test("norms, differences and cosines are those of the products, whatever the ranks", async () => {
  const [a, b] = await twoAdapters(
    { modules: everyKindOfModule(8, 3), alpha: 2, seed: 1 },
    { modules: everyKindOfModule(5), alpha: -7, seed: 2 },
  );
  const [productsA, productsB] = [await adapterProducts(a!), await adapterProducts(b!)];
  const { modules, totals, onlyInA, onlyInB, differentShapes } = await compareAdapters(a!, b!);
  expect({ onlyInA, onlyInB, differentShapes }).toEqual({ onlyInA: [], onlyInB: [], differentShapes: [] });
  expect(modules).toHaveLength(8);
  let [difference, dot] = [0, 0];
  for (const { name, norms, relativeDifference: reported, cosine, ranks } of modules) {
    const [x, y] = [productsA.get(name)!, productsB.get(name)!];
    expect(norms[0] / norm(x)).toBeCloseTo(1, 12);
    expect(norms[1] / norm(y)).toBeCloseTo(1, 12);
    expect(reported).toBeCloseTo(relativeDifference(y, x), 10);
    expect(cosine).toBeCloseTo(inner(x, y) / norm(x) / norm(y), 12);
    expect(ranks).toEqual([name.includes("resnets") ? 3 : 8, 5]);
    difference += (reported! * norms[0]) ** 2;
    dot += inner(x, y);
  }
  const [all] = totals;
  expect(all).toMatchObject({ component: "all", modules: 8 });
  expect(all!.relativeDifference).toBeCloseTo(Math.sqrt(difference) / all!.norms[0], 12);
  expect(all!.cosine).toBeCloseTo(dot / all!.norms[0] / all!.norms[1], 12);
  await Promise.all([a!.close(), b!.close()]);
});

test("an adapter is equal to itself", async () => {
  const [a, b] = await twoAdapters({}, {});
  const { modules, totals } = await compareAdapters(a!, b!);
  for (const { relativeDifference: difference, cosine, columnAngles, rowAngles, columnOverlap } of modules) {
    expect(difference).toBe(0);
    expect(cosine).toBeCloseTo(1, 13);
    // The arc cosine turns a rounding of 1e-13 into 4e-7 radians.
    for (const angle of [...columnAngles, ...rowAngles]) expect(angle).toBeLessThan(1e-4);
    expect(columnOverlap).toBeCloseTo(1, 12);
  }
  expect(totals[0]!.relativeDifference).toBe(0);
  await Promise.all([a!.close(), b!.close()]);
});

test("modules of one adapter only, and of other layers, are listed", async () => {
  const modules = everyKindOfModule(4);
  const [a, b] = await twoAdapters(
    { modules: modules.slice(0, 6) },
    {
      modules: [
        ...modules.slice(2, 8).map((module, i) => (i === 0 ? { ...module, outFeatures: 25 } : module)),
      ],
    },
  );
  const report = await compareAdapters(a!, b!);
  const names = modules.map(({ name }) => name);
  expect(report.onlyInA.toSorted()).toEqual(names.slice(0, 2).toSorted());
  expect(report.onlyInB.toSorted()).toEqual(names.slice(6).toSorted());
  expect(report.differentShapes).toEqual([names[2]]);
  expect(report.modules.map(({ name }) => name).toSorted()).toEqual(names.slice(3, 6).toSorted());
  expect(report.totals.map(({ component }) => component)).toEqual(["all"]);
  await Promise.all([a!.close(), b!.close()]);
});

test.each([
  [
    "SDXL with Stability AI's block names and with diffusers'",
    {
      lora_unet_input_blocks_4_1_proj_in: "lora_unet_down_blocks_1_attentions_0_proj_in",
      lora_unet_output_blocks_3_0_in_layers_2: "lora_unet_up_blocks_1_resnets_0_conv1",
      lora_te2_text_model_encoder_layers_31_mlp_fc1: "lora_te2_text_model_encoder_layers_31_mlp_fc1",
    },
  ],
  [
    "the prefix that diffusers' converter writes for the only text encoder",
    {
      lora_te_text_model_encoder_layers_0_mlp_fc1: "lora_te1_text_model_encoder_layers_0_mlp_fc1",
    },
  ],
] as [string, Record<string, string>][])("two names of one module: %s", async (_, names) => {
  const named = (list: readonly string[]) =>
    list.map((name): RandomModule => ({ name, kind: "linear", rank: 4, inFeatures: 16, outFeatures: 24 }));
  const [a, b] = await twoAdapters(
    { modules: named(Object.keys(names)) },
    { modules: named(Object.values(names)) },
  );
  const report = await compareAdapters(a!, b!);
  expect(report).toMatchObject({ onlyInA: [], onlyInB: [], differentShapes: [] });
  expect(report.modules.map(({ name }) => name)).toEqual(a!.modules.map(({ name }) => name));
  expect(report.modules).toHaveLength(Object.keys(names).length);
  const [all] = report.totals;
  // The same random numbers in both, if each module meets its other self.
  expect([all!.cosine, all!.norms[0] / all!.norms[1]]).toEqual([
    expect.closeTo(1, 12),
    expect.closeTo(1, 12),
  ]);
  await Promise.all([a!.close(), b!.close()]);
});

test("a 1x1 convolution in two dimensions is the one in four", async () => {
  const module = {
    name: "lora_unet_mid_block_attentions_0_proj_in",
    rank: 4,
    inFeatures: 12,
    outFeatures: 10,
  };
  const [a, b] = await twoAdapters(
    { modules: [{ ...module, kind: "conv1x1" }] },
    { modules: [{ ...module, kind: "linear" }] },
  );
  const { modules } = await compareAdapters(a!, b!);
  expect(modules[0]!.relativeDifference).toBeLessThan(1e-14);
  await Promise.all([a!.close(), b!.close()]);
});

describe("two products", () => {
  const factors = (down: Float64Array, upT: Float64Array) => ({ down, upT });

  // torch.linalg.svdvals(qr(A.T).Q.T @ qr(B.T).Q) of the same matrices (PyTorch 1.13).
  test("principal angles are PyTorch's", () => {
    const cosines = [0.8893490476686204, 0.5847017683601871, 0.1876220775993808];
    const upT = randomMatrix(3, 9, 4);
    const a = { factors: factors(formulaMatrix(24, 2), upT), rank: 3, scale: 1 };
    const b = { factors: factors(formulaMatrix(24, 9), upT), rank: 3, scale: 5 };
    const { rowAngles, columnAngles } = compareProducts(a, b);
    for (const [i, angle] of rowAngles.entries()) {
      expect(Math.cos((angle * Math.PI) / 180)).toBeCloseTo(cosines[i]!, 10);
    }
    for (const angle of columnAngles) expect(angle).toBeLessThan(1e-4);
  });

  test("a space inside a larger one has angles of 0, an orthogonal one of 90 degrees", () => {
    const down = new Float64Array(4 * 10);
    for (let i = 0; i < 4; i++) down[i * 10 + i] = 1;
    const other = new Float64Array(2 * 10);
    for (let i = 0; i < 2; i++) other[i * 10 + 6 + i] = 1;
    const upT = randomMatrix(4, 7, 1);
    const whole = { factors: factors(down, upT), rank: 4, scale: 1 };
    const part = { factors: factors(down.slice(10, 30), upT.slice(7, 21)), rank: 2, scale: 1 };
    const apart = { factors: factors(other, upT.slice(7, 21)), rank: 2, scale: 1 };
    for (const angle of compareProducts(whole, part).rowAngles) expect(angle).toBeLessThan(1e-4);
    expect(compareProducts(whole, part).rowAngles).toHaveLength(2);
    for (const angle of compareProducts(whole, apart).rowAngles) expect(angle).toBeCloseTo(90, 10);
    expect(compareProducts(whole, apart).innerProduct).toBeCloseTo(0, 12);
  });

  test("other factors of the same product make no difference", () => {
    const [down, upT] = [randomMatrix(6, 30, 1), randomMatrix(6, 20, 2)];
    const mix = randomMatrix(6, 6, 3);
    // (up · mix) · down = up · (mix · down)
    const left = { factors: factors(down, transposedTimes(mix, upT)), rank: 6, scale: 2 };
    const right = { factors: factors(multiply(mix, down, 6), upT), rank: 6, scale: 2 };
    const { differenceNorm, normA } = compareProducts(left, right);
    expect(differenceNorm / normA).toBeLessThan(1e-14);
  });

  test("a small difference keeps its digits", () => {
    const [down, upT] = [randomMatrix(4, 30, 1), randomMatrix(4, 20, 2)];
    const moved = down.map((value, k) => (k < 30 ? value * (1 + 1e-9) : value));
    const { differenceNorm } = compareProducts(
      { factors: factors(down, upT), rank: 4, scale: 3 },
      { factors: factors(moved, upT), rank: 4, scale: 3 },
    );
    const expected = 3e-9 * norm(down.subarray(0, 30)) * norm(upT.subarray(0, 20));
    expect(differenceNorm / expected).toBeCloseTo(1, 5);
  });

  test("a direction that is float32's rounding has no angle", () => {
    const down = Float32Array.from(randomMatrix(4, 30, 1));
    // The fourth row is a mixture of the others but for its rounding to float32.
    for (let i = 0; i < 30; i++) down[90 + i] = 0.3 * down[i]! - 0.7 * down[30 + i]! + 0.2 * down[60 + i]!;
    const upT = Float32Array.from(randomMatrix(4, 20, 2));
    const thin = { factors: { down, upT }, rank: 4, scale: 1 };
    const other = { factors: factors(randomMatrix(5, 30, 3), randomMatrix(5, 20, 4)), rank: 5, scale: 1 };
    const { rowAngles, columnAngles } = compareProducts(thin, other);
    expect([rowAngles.length, columnAngles.length]).toEqual([3, 3]);
  });

  test("zeros have no direction", () => {
    const zero = { factors: factors(randomMatrix(3, 8, 1), new Float64Array(15)), rank: 3, scale: 1 };
    const other = { factors: factors(randomMatrix(3, 8, 1), randomMatrix(3, 5, 2)), rank: 3, scale: 1 };
    const { normA, normB, differenceNorm, rowAngles } = compareProducts(zero, other);
    expect(normA).toBe(0);
    expect(differenceNorm).toBeCloseTo(normB, 12);
    expect(rowAngles).toEqual([]);
  });
});

/** `(up · mix)ᵀ = mixᵀ upᵀ` */
function transposedTimes(mix: Float64Array, upT: Float64Array): Float64Array {
  const transposed = Float64Array.from({ length: 36 }, (_, k) => mix[(k % 6) * 6 + Math.floor(k / 6)]!);
  return multiply(transposed, upT, 6);
}

test("a module of zeros: no quotient, no angle", async () => {
  const [a, b] = await twoAdapters({ alpha: 0 }, {});
  const { modules, totals } = await compareAdapters(a!, b!);
  for (const { relativeDifference: difference, cosine, norms } of modules) {
    expect({ difference, cosine, norm: norms[0] }).toEqual({ difference: null, cosine: null, norm: 0 });
  }
  expect(totals[0]).toMatchObject({ relativeDifference: null, cosine: null });
  await Promise.all([a!.close(), b!.close()]);
});

test("an interruption", async () => {
  const [a, b] = await twoAdapters({}, {});
  await expect(compareAdapters(a!, b!, { signal: AbortSignal.abort() })).rejects.toMatchObject({
    code: "E_INTERRUPTED",
  });
  await Promise.all([a!.close(), b!.close()]);
});
