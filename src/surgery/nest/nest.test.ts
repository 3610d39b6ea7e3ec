import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { adapterProducts } from "../../../test/helpers/adapter-product.js";
import { norm, relativeDifference, tailNorm } from "../../../test/helpers/matrix.js";
import {
  everyKindOfModule,
  type RandomAdapterOptions,
  writeRandomAdapter,
} from "../../../test/helpers/random-adapter.js";
import { tempFolder } from "../../../test/helpers/temp-folder.js";
import { openAdapter, readNetworkArgs } from "../../adapter/index.js";
import { extract } from "../extract/extract.js";
import { planExtract } from "../extract/plan-extract.js";
import { readSingularValues } from "../svd/spectrum.js";
import { nest, planNest } from "./nest.js";

const RANK = 10;

async function nested(options: RandomAdapterOptions = {}) {
  const folder = await tempFolder();
  const path = join(folder, "cat.safetensors");
  await writeRandomAdapter(path, { modules: everyKindOfModule(RANK, 4), alpha: 3, ...options });
  const nestedPath = join(folder, "nested.safetensors");
  await using parent = await openAdapter(path);
  const report = await nest(planNest(parent, { path: nestedPath }));
  return { folder, path, nestedPath, report };
}

/** Extracts as the command does: by what the file's metadata say. */
async function extractRank(path: string, outDir: string, rank: number): Promise<string> {
  await using parent = await openAdapter(path);
  const { outputs } = await extract(planExtract(parent, { ranks: [rank] }, { outDir }));
  return outputs[0]!.path;
}

describe("nest, then extract", () => {
  // The default type is F32, so that what F16 holds is not rounded a second time.
  test.each(["F16", "F32"] as const)("at the full rank gives the product back, from %s", async (dtype) => {
    const { folder, path, nestedPath } = await nested({ dtype });
    const copyPath = await extractRank(nestedPath, join(folder, "out"), RANK);
    await using parent = await openAdapter(path);
    await using copy = await openAdapter(copyPath);
    const [before, after] = [await adapterProducts(parent), await adapterProducts(copy)];
    expect([...after.keys()].sort()).toEqual([...before.keys()].sort());
    for (const [name, product] of before)
      expect(relativeDifference(after.get(name)!, product)).toBeLessThan(1e-6);
  });

  test.each([1, 3, 4, 7, 9])("at rank %i loses the tail of the singular values", async (rank) => {
    const { folder, path, nestedPath, report } = await nested();
    const copyPath = await extractRank(nestedPath, folder, rank);
    await using parent = await openAdapter(path);
    await using copy = await openAdapter(copyPath);
    const [before, after] = [await adapterProducts(parent), await adapterProducts(copy)];
    const spectra = await readSingularValues(parent);
    let [lost, total] = [0, 0];
    for (const [i, module] of parent.modules.entries()) {
      const expected = tailNorm(spectra[i]!, Math.min(rank, module.rank)) / norm(spectra[i]!);
      const error = relativeDifference(after.get(module.name)!, before.get(module.name)!);
      // 1e-6: factors and alphas are float32.
      expect(Math.abs(error - expected)).toBeLessThan(1e-6);
      lost += tailNorm(spectra[i]!, rank) ** 2;
      total += norm(spectra[i]!) ** 2;
    }
    expect(report.relativeErrorAtRank[rank - 1]).toBeCloseTo(Math.sqrt(lost / total), 12);
  });
});

test("nesting twice changes nothing more", async () => {
  const { folder, nestedPath } = await nested();
  await using once = await openAdapter(nestedPath);
  const again = join(folder, "again.safetensors");
  await nest(planNest(once, { path: again }));
  await using twice = await openAdapter(again);
  for (const { down, name } of once.modules) {
    const [a, b] = [await once.file.readFloat32(down.name), await twice.file.readFloat32(down.name)];
    // Singular vectors have no sign.
    const sameSize = relativeDifference(a.map(Math.abs), b.map(Math.abs));
    expect({ name, same: sameSize < 1e-4 }).toEqual({ name, same: true });
  }
});

test("ranks that a product does not have are zeros, and the product stays", async () => {
  const modules = [
    { name: "lora_unet_conv_in", kind: "conv3x3", rank: 16, inFeatures: 1, outFeatures: 20 },
  ] as const;
  const { path, nestedPath } = await nested({ modules });
  await using parent = await openAdapter(path);
  await using copy = await openAdapter(nestedPath);
  const [[, before]] = (await adapterProducts(parent)) as Iterable<[string, Float64Array]> as [
    [string, Float64Array],
  ];
  const [[, after]] = (await adapterProducts(copy)) as Iterable<[string, Float64Array]> as [
    [string, Float64Array],
  ];
  expect(relativeDifference(after, before)).toBeLessThan(1e-6);
  const down = await copy.file.readFloat32(copy.modules[0]!.down.name);
  expect(down.subarray(9 * 9).every((value) => value === 0)).toBe(true);
  expect(down.subarray(8 * 9, 9 * 9).every((value) => value === 0)).toBe(false);
});

test("the metadata make every prefix a rank, at the strength of the whole", async () => {
  const { nestedPath, report } = await nested({
    metadata: {
      ss_network_module: "lycoris.kohya",
      ss_network_args: '{"algo": "dylora", "block_size": "2", "conv_dim": "4", "conv_alpha": "3.0"}',
      ss_output_name: "cat",
    },
  });
  await using adapter = await openAdapter(nestedPath);
  expect(adapter.dylora).toMatchObject({
    isDylora: true,
    unit: 1,
    alphaRule: "keep",
    alphaRuleSource: "metadata",
    trainedRanks: null,
    problems: [],
  });
  expect(readNetworkArgs(adapter.metadata).args).toEqual({
    unit: "1",
    alpha_rule: "keep",
    conv_dim: "4",
    conv_alpha: "3.0",
  });
  expect(adapter.metadata).toMatchObject({
    ss_network_module: "networks.dylora",
    ss_output_name: "nested",
    dylora_operation: '{"name":"nest"}',
    dylora_parent_hash: report.parent.dataSha256,
  });
  for (const { alpha } of adapter.modules) expect(alpha).toBe(3);
});

test("existing files stay, and an interruption leaves nothing", async () => {
  const { folder, path, nestedPath } = await nested();
  await using parent = await openAdapter(path);
  await expect(nest(planNest(parent, { path: nestedPath }))).rejects.toMatchObject({ code: "E_EXISTS" });
  const plan = planNest(parent, { path: join(folder, "third.safetensors") });
  await expect(nest(plan, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "E_INTERRUPTED" });
  expect((await readdir(folder)).sort()).toEqual(["cat.safetensors", "nested.safetensors"]);
});
