import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { adapterProducts } from "../../../test/helpers/adapter-product.js";
import { norm } from "../../../test/helpers/matrix.js";
import { everyKindOfModule, writeRandomAdapter } from "../../../test/helpers/random-adapter.js";
import { tempFolder } from "../../../test/helpers/temp-folder.js";
import { openAdapter } from "../../adapter/index.js";
import { smallSvd } from "../../linalg/index.js";
import { effectiveRank, readSingularValues, readSpectrum } from "./spectrum.js";

async function randomAdapter(rank = 8, convRank = 4) {
  const path = join(await tempFolder(), "cat.safetensors");
  await writeRandomAdapter(path, { modules: everyKindOfModule(rank, convRank), alpha: 2 });
  return openAdapter(path);
}

describe("effective rank", () => {
  test.each([
    ["one value", [3], 1],
    ["one value among zeros", [3, 0, 0], 1],
    ["four equal values", [2, 2, 2, 2], 4],
    ["nothing", [0, 0], 0],
    // Entropy of (3/4, 1/4): 3/4 ln(4/3) + 1/4 ln 4.
    ["3 and 1", [3, 1], Math.exp(0.75 * Math.log(4 / 3) + 0.25 * Math.log(4))],
  ])("%s", (_, values, expected) => {
    expect(effectiveRank(Float64Array.from(values))).toBeCloseTo(expected, 12);
  });
});

test("the singular values are those of what the module adds to the weight", async () => {
  await using adapter = await randomAdapter();
  const products = await adapterProducts(adapter);
  const spectra = await readSingularValues(adapter);
  for (const [i, { name, rank, outFeatures }] of adapter.modules.entries()) {
    const product = products.get(name)!;
    const { values } = smallSvd(product, outFeatures, product.length / outFeatures, false);
    expect(spectra[i]).toHaveLength(rank);
    const difference = spectra[i]!.map((value, j) => value - (values[j] ?? 0));
    expect(norm(difference)).toBeLessThan(1e-12 * values[0]!);
  }
}, 60_000);

test("energies add up, per module and in all", async () => {
  await using adapter = await randomAdapter();
  const { modules, totals, maxRank } = await readSpectrum(adapter);
  expect(maxRank).toBe(8);
  for (const { singularValues, norm: moduleNorm, energyRanks, effectiveRank: effective, rank } of modules) {
    const energies = singularValues.map((value) => value ** 2);
    const share = (count: number) => energies.slice(0, count).reduce((a, b) => a + b, 0) / moduleNorm ** 2;
    for (const [wanted, found] of Object.entries(energyRanks)) {
      expect(share(found)).toBeGreaterThanOrEqual(Number(wanted) - 1e-12);
      expect(share(found - 1)).toBeLessThan(Number(wanted));
    }
    expect(effective).toBeGreaterThan(1);
    expect(effective).toBeLessThanOrEqual(rank);
  }
  expect(totals.map(({ component }) => component)).toEqual(["all", "unet", "text_encoder"]);
  const [all, unet, textEncoder] = totals;
  expect(all!.modules).toBe(unet!.modules + textEncoder!.modules);
  const energy = (component: string) =>
    modules
      .filter((module) => component === "all" || module.component === component)
      .map(({ singularValues }) => singularValues);
  for (const { component, energyAtRank } of totals) {
    expect(energyAtRank).toHaveLength(8);
    const values = energy(component);
    const kept = (rank: number) =>
      values.flatMap((own) => own.slice(0, rank)).reduce((a, b) => a + b ** 2, 0);
    for (const [i, share] of energyAtRank.entries()) expect(share).toBeCloseTo(kept(i + 1) / kept(8), 12);
  }
});

test("progress, and an interruption", async () => {
  await using adapter = await randomAdapter();
  const steps: number[] = [];
  await readSingularValues(adapter, { onProgress: ({ doneModules }) => steps.push(doneModules) });
  expect(steps).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  await expect(readSingularValues(adapter, { signal: AbortSignal.abort() })).rejects.toMatchObject({
    code: "E_INTERRUPTED",
  });
});
