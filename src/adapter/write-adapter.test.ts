import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { everyKindOfModule, randomValues } from "../../test/helpers/random-adapter.js";
import { computeModelHash, SafetensorsFile } from "../safetensors/index.js";
import { readFactors, transpose } from "./factors.js";
import { openAdapter } from "./open-adapter.js";
import { type AdapterModuleSource, type FactorSource, writeAdapter } from "./write-adapter.js";

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "dylora-write-adapter-"));
  path = join(folder, "lora.safetensors");
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

const MODULES: AdapterModuleSource[] = everyKindOfModule(8, 4).map(
  ({ name, kind, rank, inFeatures, outFeatures }, i) => ({
    name,
    kind,
    rank,
    inFeatures,
    outFeatures,
    alpha: 2,
    down: randomValues(rank * inFeatures * (kind === "conv3x3" ? 9 : 1), i),
    upT: randomValues(rank * outFeatures, 100 + i),
  }),
);

it("transposes", () => {
  const values = Float32Array.from({ length: 70 * 45 }, (_, i) => i);
  const result = transpose(values, 70, 45);
  for (const [row, column] of [
    [0, 0],
    [1, 0],
    [0, 1],
    [69, 44],
    [33, 31],
    [31, 33],
  ] as const) {
    expect(result[column * 70 + row]).toBe(values[row * 45 + column]);
  }
  expect(transpose(result, 45, 70)).toEqual(values);
});

describe("writeAdapter", () => {
  it("writes what openAdapter and readFactors read, to the last bit in float32", async () => {
    await writeAdapter(path, MODULES, { metadata: { ss_network_dim: "8" }, dtype: "F32" });
    await using adapter = await openAdapter(path);
    expect(adapter.modules.length).toBe(MODULES.length);
    for (const module of adapter.modules) {
      const source = MODULES.find(({ name }) => name === module.name)!;
      expect(module).toMatchObject({ kind: source.kind, rank: source.rank, alpha: 2 });
      expect(await readFactors(adapter.file, module)).toEqual({ down: source.down, upT: source.upT });
    }
  });

  it("writes kohya's names and shapes, alpha a scalar of the same type", async () => {
    await writeAdapter(path, MODULES, { metadata: {}, dtype: "F16" });
    await using file = await SafetensorsFile.open(path);
    const shapes = (name: string) =>
      ["lora_down.weight", "lora_up.weight", "alpha"].map((part) => {
        const { dtype, shape } = file.info(`${name}.${part}`);
        return `${dtype} [${shape.join(",")}]`;
      });
    expect(shapes("lora_unet_down_blocks_1_attentions_0_proj_in")).toEqual([
      "F16 [8,32,1,1]",
      "F16 [24,8,1,1]",
      "F16 []",
    ]);
    expect(shapes("lora_unet_down_blocks_1_resnets_0_conv1")).toEqual([
      "F16 [4,16,3,3]",
      "F16 [24,4,1,1]",
      "F16 []",
    ]);
    expect(shapes("lora_te_text_model_encoder_layers_0_mlp_fc1")).toEqual([
      "F16 [8,20]",
      "F16 [80,8]",
      "F16 []",
    ]);
    expect(file.header.metadata).toEqual({
      sshs_model_hash: await computeModelHash(file),
      // Of a file that ends before 1 MiB: the hash of nothing.
      sshs_legacy_hash: "e3b0c442",
    });
  });

  it("transposes up: element [o, r] is upT[r, o]", async () => {
    const module: AdapterModuleSource = {
      name: "lora_unet_x",
      kind: "linear",
      rank: 2,
      alpha: 1,
      inFeatures: 1,
      outFeatures: 3,
      down: Float32Array.of(0, 0),
      upT: Float32Array.of(1, 2, 3, 4, 5, 6),
    };
    await writeAdapter(path, [module], { metadata: {}, dtype: "F32" });
    await using file = await SafetensorsFile.open(path);
    expect([...(await file.readFloat32("lora_unet_x.lora_up.weight"))]).toEqual([1, 4, 2, 5, 3, 6]);
  });

  it("fetches a factor when it is its turn", async () => {
    const fetched: string[] = [];
    const tracked = (label: string, factor: FactorSource) => async () => {
      fetched.push(label);
      return factor as Float32Array;
    };
    const lazy = MODULES.map((module) => ({
      ...module,
      down: tracked(`${module.name} down`, module.down),
      upT: tracked(`${module.name} up`, module.upT),
    }));
    const { dataSha256 } = await writeAdapter(path, lazy, { metadata: {}, dtype: "BF16" });
    const eager = await writeAdapter(path, MODULES, { metadata: {}, dtype: "BF16", overwrite: true });
    expect(dataSha256).toBe(eager.dataSha256);
    expect(fetched).toEqual(
      [...MODULES.map(({ name }) => name)].sort().flatMap((name) => [`${name} down`, `${name} up`]),
    );
  });

  it("keeps alpha exact: in the factors' type where that holds it, else in float32", async () => {
    const alphas = MODULES.map((module, i) => ({ ...module, alpha: [1, 0.1, 2 / 3][i % 3]! }));
    await writeAdapter(path, alphas, { metadata: {}, dtype: "F16" });
    await using adapter = await openAdapter(path);
    for (const { name, alpha, alphaTensor } of adapter.modules) {
      const expected = alphas.find((module) => module.name === name)!.alpha;
      expect(alpha).toBe(Math.fround(expected));
      expect(alphaTensor!.dtype).toBe(expected === 1 ? "F16" : "F32");
    }
  });

  it.each([
    ["F16", 70_000, "E_INCOMPATIBLE", "holds 70000, too large for F16"],
    ["F32", Number.NaN, "E_DIVERGED", "holds NaN"],
    ["BF16", Number.NEGATIVE_INFINITY, "E_DIVERGED", "holds -Infinity"],
  ] as const)("refuses to write as %s the number %s", async (dtype, value, code, problem) => {
    const bad = { ...MODULES[2]!, upT: (MODULES[2]!.upT as Float32Array).slice() };
    bad.upT[5] = value;
    await expect(writeAdapter(path, [MODULES[0]!, bad], { metadata: {}, dtype })).rejects.toMatchObject({
      code,
      message: expect.stringContaining(`${bad.name}.lora_up.weight ${problem}`),
    });
    expect(readdirSync(folder)).toEqual([]);
  });

  it("refuses a factor of the wrong size", async () => {
    const bad = { ...MODULES[0]!, down: new Float32Array(3) };
    await expect(writeAdapter(path, [bad], { metadata: {}, dtype: "F32" })).rejects.toMatchObject({
      code: "E_INTERNAL",
    });
  });
});
