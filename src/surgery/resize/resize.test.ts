import { readdir, readFile, writeFile } from "node:fs/promises";
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
import { computeModelHash, readHeader } from "../../safetensors/index.js";
import { readSingularValues } from "../svd/spectrum.js";
import { planResize, type ResizeOptions } from "./plan-resize.js";
import type { RankRule } from "./rank-rules.js";
import { measureOutput, resize } from "./resize.js";

const RANK = 12;

/** A folder with `cat.safetensors`, of float32 unless told otherwise: rounding should not hide an error. */
async function folderWithAdapter(options: RandomAdapterOptions = {}): Promise<string> {
  const folder = await tempFolder();
  await writeRandomAdapter(join(folder, "cat.safetensors"), {
    modules: everyKindOfModule(RANK, 6),
    dtype: "F32",
    ...options,
  });
  return folder;
}

async function resizeIn(folder: string, rules: RankRule[], options: ResizeOptions = {}) {
  await using parent = await openAdapter(join(folder, "cat.safetensors"));
  return await resize(await planResize(parent, rules, { outDir: folder, ...options }));
}

describe("what a resized file is", () => {
  test.each([
    ["at rank 4", [{ kind: "rank", rank: 4 }]],
    ["at rank 1", [{ kind: "rank", rank: 1 }]],
    ["3x3 convolutions at their own rank", [{ kind: "rank", rank: 4, convRank: 2 }]],
    ["a rank that 3x3 convolutions do not reach", [{ kind: "rank", rank: 8 }]],
    ["by sv_fro", [{ kind: "energy", method: "sv_fro", param: 0.9 }]],
    ["by sv_cumulative", [{ kind: "energy", method: "sv_cumulative", param: 0.6 }]],
    ["by sv_ratio", [{ kind: "energy", method: "sv_ratio", param: 1.5, maxRank: 6 }]],
    ["by size", [{ kind: "size", targetBytes: 40_000 }]],
    [
      "several in one pass",
      [
        { kind: "rank", rank: 2 },
        { kind: "rank", rank: 8 },
        { kind: "energy", method: "sv_fro", param: 0.8 },
      ],
    ],
  ] as [string, RankRule[]][])("%s: the error is the tail of the singular values", async (_, rules) => {
    const folder = await folderWithAdapter();
    await using parent = await openAdapter(join(folder, "cat.safetensors"));
    const before = await adapterProducts(parent);
    const spectra = await readSingularValues(parent);
    const { outputs } = await resizeIn(folder, rules);
    expect(outputs).toHaveLength(rules.length);
    for (const { path, modules, relativeError, ranks } of outputs) {
      await using copy = await openAdapter(path);
      const after = await adapterProducts(copy);
      expect(copy.modules.map(({ name }) => name).sort()).toEqual(
        parent.modules.map(({ name }) => name).sort(),
      );
      let [lost, total] = [0, 0];
      for (const [i, { name }] of parent.modules.entries()) {
        const module = copy.modules.find((other) => other.name === name)!;
        const reported = modules.find((other) => other.name === name)!;
        const values = spectra[i]!;
        expect(module.rank).toBe(reported.rank);
        const error = relativeDifference(after.get(name)!, before.get(name)!);
        // 1e-5: factors and alphas are float32.
        expect(Math.abs(error - tailNorm(values, module.rank) / norm(values))).toBeLessThan(1e-5);
        expect(reported.relativeError).toBeCloseTo(tailNorm(values, module.rank) / norm(values), 12);
        lost += tailNorm(values, module.rank) ** 2;
        total += norm(values) ** 2;
      }
      expect(relativeError).toBeCloseTo(Math.sqrt(lost / total), 12);
      expect(ranks).toEqual([
        Math.min(...copy.modules.map(({ rank }) => rank)),
        Math.max(...copy.modules.map(({ rank }) => rank)),
      ]);
    }
  });

  test("strength stays: alpha shrinks with the rank", async () => {
    const folder = await folderWithAdapter({ alpha: 3 });
    const { outputs } = await resizeIn(folder, [{ kind: "rank", rank: 4 }]);
    await using copy = await openAdapter(outputs[0]!.path);
    for (const { name, alpha, rank, kind } of copy.modules) {
      expect({ name, alpha, rank }).toEqual({
        name,
        alpha: kind === "conv3x3" || name.endsWith("shortcut") ? 2 : 1,
        rank: 4,
      });
    }
  });

  test("a parent without alphas, and negative ones", async () => {
    for (const alpha of [null, -2]) {
      const folder = await folderWithAdapter({ alpha });
      await using parent = await openAdapter(join(folder, "cat.safetensors"));
      const { outputs } = await resizeIn(folder, [{ kind: "rank", rank: 11 }]);
      await using copy = await openAdapter(outputs[0]!.path);
      const [before, after] = [await adapterProducts(parent), await adapterProducts(copy)];
      for (const { name, relativeError } of outputs[0]!.modules) {
        expect(
          Math.abs(relativeDifference(after.get(name)!, before.get(name)!) - relativeError),
        ).toBeLessThan(1e-5);
      }
    }
  });

  test("a module that keeps its rank keeps its bytes", async () => {
    const folder = await folderWithAdapter({ dtype: "F16" });
    await using parent = await openAdapter(join(folder, "cat.safetensors"));
    const { outputs } = await resizeIn(folder, [{ kind: "rank", rank: 6 }]);
    await using copy = await openAdapter(outputs[0]!.path);
    const whole = parent.modules.filter(({ rank }) => rank === 6);
    expect(whole).toHaveLength(2);
    for (const { down, up } of whole) {
      for (const { name } of [down, up])
        expect(await copy.file.read(name)).toEqual(await parent.file.read(name));
    }
    expect(outputs[0]!.modules.filter(({ relativeError }) => relativeError === 0)).toHaveLength(2);
  });

  test("components are balanced and ordered by size", async () => {
    const folder = await folderWithAdapter();
    const { outputs } = await resizeIn(folder, [{ kind: "rank", rank: 4 }]);
    await using copy = await openAdapter(outputs[0]!.path);
    await using parent = await openAdapter(join(folder, "cat.safetensors"));
    const spectra = await readSingularValues(parent);
    for (const [i, { name, alpha, rank }] of parent.modules.entries()) {
      const { down } = copy.modules.find((module) => module.name === name)!;
      const values = await copy.file.readFloat32(down.name);
      const length = values.length / 4;
      for (let j = 0; j < 4; j++) {
        const expected = Math.sqrt((spectra[i]![j]! * rank) / alpha);
        expect(norm(values.subarray(j * length, (j + 1) * length)) / expected).toBeCloseTo(1, 5);
      }
    }
  });

  test.each(["F16", "BF16", "F32"] as const)("--dtype %s", async (dtype) => {
    const folder = await folderWithAdapter({ dtype: "F16" });
    const { outputs, dtype: used } = await resizeIn(folder, [{ kind: "rank", rank: 4 }], { dtype });
    expect(used).toBe(dtype);
    const { tensors } = await readHeader(outputs[0]!.path);
    for (const tensor of tensors.values()) if (tensor.shape.length > 0) expect(tensor.dtype).toBe(dtype);
  });
});

describe("size", () => {
  test.each([20_000, 33_333, 60_000])(
    "%i bytes: the file fits, and no component more would",
    async (targetBytes) => {
      const folder = await folderWithAdapter({ dtype: "F16" });
      const { outputs } = await resizeIn(folder, [{ kind: "size", targetBytes }]);
      const { path, sizeBytes, modules } = outputs[0]!;
      expect((await readFile(path)).length).toBe(sizeBytes);
      expect(sizeBytes).toBeLessThanOrEqual(targetBytes);
      await using parent = await openAdapter(join(folder, "cat.safetensors"));
      const smallest = Math.min(
        ...modules
          .filter(({ rank, parentRank }) => rank < parentRank)
          .map(({ name }) => {
            const { down, up, rank } = parent.modules.find((module) => module.name === name)!;
            return (down.sizeBytes + up.sizeBytes) / rank;
          }),
      );
      expect(targetBytes - sizeBytes).toBeLessThan(smallest + 8);
    },
  );

  test("all modules together lose less than with one rank for all in a file of the same size", async () => {
    const folder = await folderWithAdapter();
    const fixed = await resizeIn(folder, [{ kind: "rank", rank: 3 }]);
    const { sizeBytes, relativeError } = fixed.outputs[0]!;
    const chosen = await resizeIn(folder, [{ kind: "size", targetBytes: sizeBytes }]);
    expect(chosen.outputs[0]!.relativeError).toBeLessThan(relativeError);
  });
});

describe("metadata", () => {
  const metadata = {
    ss_network_module: "networks.dylora",
    ss_network_dim: "12",
    ss_network_alpha: "4.0",
    ss_network_args:
      '{"unit": "2", "alpha_rule": "paper", "conv_dim": "6", "conv_alpha": "4.0", "dropout": "0.1"}',
    ss_output_name: "cat",
    ss_base_model_version: "sd_v1",
    sshs_model_hash: "old",
    sshs_legacy_hash: "old",
    "modelspec.title": "cat",
    "modelspec.date": "2020-01-01T00:00:00",
  };

  test("a fixed rank", async () => {
    const folder = await folderWithAdapter({ metadata });
    const date = new Date(2026, 1, 3, 4, 5, 6);
    const { outputs, parent } = await resizeIn(folder, [{ kind: "rank", rank: 4, convRank: 3 }], { date });
    const { metadata: written } = await readHeader(outputs[0]!.path);
    expect(written).toMatchObject({
      ss_network_module: "networks.lora",
      ss_network_dim: "4",
      ss_network_alpha: "Dynamic",
      ss_output_name: "cat-r4c3",
      ss_base_model_version: "sd_v1",
      "modelspec.title": "cat-r4c3",
      "modelspec.date": "2026-02-03T04:05:06",
      dylora_parent_hash: parent.dataSha256,
      dylora_parent_rank: "12",
      dylora_operation: '{"name":"resize","by":"rank","rank":4,"convRank":3}',
    });
    expect(readNetworkArgs(written!).args).toEqual({ dropout: "0.1", conv_dim: "3", conv_alpha: "2.0" });
    await using copy = await openAdapter(outputs[0]!.path);
    expect(copy.dylora.isDylora).toBe(false);
    expect(written!.sshs_model_hash).toBe(await computeModelHash(copy.file));
    expect(parent.hashMatches).toBe(false);
  });

  test("one rank and alpha for all modules but 3x3 convolutions", async () => {
    const folder = await folderWithAdapter({ modules: everyKindOfModule(8), metadata });
    const { outputs } = await resizeIn(folder, [{ kind: "rank", rank: 4, convRank: 2 }]);
    expect((await readHeader(outputs[0]!.path)).metadata).toMatchObject({
      ss_network_dim: "4",
      ss_network_alpha: "2.0",
      ss_network_args: '{"dropout": "0.1", "conv_dim": "2", "conv_alpha": "1.0"}',
    });
  });

  test("a parent without metadata", async () => {
    const folder = await folderWithAdapter({ modules: everyKindOfModule(8) });
    const { outputs } = await resizeIn(folder, [{ kind: "rank", rank: 4 }]);
    expect((await readHeader(outputs[0]!.path)).metadata).toMatchObject({
      ss_network_module: "networks.lora",
      ss_network_dim: "4",
      ss_network_alpha: "2.0",
    });
  });
});

describe("the plan", () => {
  test("sizes are exact, and losses known where they were asked for", async () => {
    const folder = await folderWithAdapter();
    await using parent = await openAdapter(join(folder, "cat.safetensors"));
    const rules: RankRule[] = [
      { kind: "rank", rank: 4 },
      { kind: "size", targetBytes: 50_000 },
    ];
    const unmeasured = await planResize(parent, rules.slice(0, 1), { outDir: folder });
    expect(measureOutput(unmeasured, unmeasured.outputs[0]!)).toBeNull();
    const plan = await planResize(parent, rules, { outDir: folder, measure: true });
    expect(await readdir(folder)).toEqual(["cat.safetensors"]);
    const { outputs } = await resize(plan);
    for (const [i, output] of plan.outputs.entries()) {
      const { path, sizeBytes, relativeError } = outputs[i]!;
      expect((await readFile(path)).length).toBe(output.sizeBytes);
      expect(measureOutput(plan, output)).toMatchObject({ path, sizeBytes });
      expect(measureOutput(plan, output)!.relativeError).toBeCloseTo(relativeError, 12);
    }
  });

  test("names say what was asked for", async () => {
    const folder = await folderWithAdapter();
    await using parent = await openAdapter(join(folder, "cat.safetensors"));
    const plan = await planResize(
      parent,
      [
        { kind: "rank", rank: 4 },
        { kind: "rank", rank: 4, convRank: 2 },
        { kind: "energy", method: "sv_ratio", param: 20 },
        { kind: "size", targetBytes: 1_000_000 },
        { kind: "size", targetBytes: 50_001 },
      ],
      { outDir: "out" },
    );
    expect(plan.outputs.map(({ path }) => path)).toEqual(
      ["-r4", "-r4c2", "-sv_ratio20", "-1MB", "-50001B"].map((suffix) =>
        join("out", `cat${suffix}.safetensors`),
      ),
    );
    const single = await planResize(parent, [{ kind: "rank", rank: 4 }], { path: "dog.safetensors" });
    expect(single.outputs[0]!.path).toBe("dog.safetensors");
  });

  test.each([
    [{ kind: "rank", rank: 13 }, "E_RANK", "rank 13 is above the largest one, 12"],
    [{ kind: "rank", rank: 0 }, "E_RANK", "rank 0 is no whole number of 1 or more"],
    [{ kind: "rank", rank: 4, convRank: 7 }, "E_RANK", "3x3 convolution rank 7 is above the largest one, 6"],
    [
      { kind: "energy", method: "sv_fro", param: 1.5 },
      "E_USAGE",
      "sv_fro expects a number above 0 and at most 1",
    ],
    [
      { kind: "energy", method: "sv_ratio", param: 0.5 },
      "E_USAGE",
      "sv_ratio expects a number of at least 1",
    ],
    [{ kind: "energy", method: "sv_fro", param: 0.5, maxRank: 99 }, "E_RANK", "maximum rank 99 is above"],
    [
      { kind: "size", targetBytes: 5000 },
      "E_USAGE",
      "no file of 5000 bytes is possible: with rank 1 in every module it takes",
    ],
    [{ kind: "size", targetBytes: 1.5 }, "E_USAGE", "the size 1.5 is no whole number of bytes"],
  ] as [RankRule, string, string][])("refuses %j", async (rule, code, message) => {
    const folder = await folderWithAdapter();
    await using parent = await openAdapter(join(folder, "cat.safetensors"));
    await expect(planResize(parent, [rule])).rejects.toMatchObject({
      code,
      message: expect.stringContaining(message),
      note: expect.stringContaining("Nothing was written."),
    });
  });

  test("a rank for 3x3 convolutions needs some", async () => {
    const folder = await folderWithAdapter({
      modules: everyKindOfModule(8).filter(({ kind }) => kind !== "conv3x3"),
    });
    await using parent = await openAdapter(join(folder, "cat.safetensors"));
    await expect(planResize(parent, [{ kind: "rank", rank: 4, convRank: 2 }])).rejects.toMatchObject({
      code: "E_USAGE",
    });
  });
});

describe("files are safe", () => {
  test("existing files stay without `overwrite`, and the parent stays whatever is asked", async () => {
    const folder = await folderWithAdapter();
    const path = join(folder, "cat.safetensors");
    await writeFile(join(folder, "cat-r4.safetensors"), "mine");
    await using parent = await openAdapter(path);
    const plan = await planResize(
      parent,
      [
        { kind: "rank", rank: 2 },
        { kind: "rank", rank: 4 },
      ],
      { outDir: folder },
    );
    await expect(resize(plan)).rejects.toMatchObject({ code: "E_EXISTS" });
    expect(await readFile(join(folder, "cat-r4.safetensors"), "utf8")).toBe("mine");
    const onto = await planResize(parent, [{ kind: "rank", rank: 4 }], { path });
    await expect(resize(onto, { overwrite: true })).rejects.toMatchObject({ code: "E_EXISTS" });
    expect((await readdir(folder)).sort()).toEqual(["cat-r4.safetensors", "cat.safetensors"]);
    await resize(plan, { overwrite: true });
    expect((await readdir(folder)).sort()).toEqual([
      "cat-r2.safetensors",
      "cat-r4.safetensors",
      "cat.safetensors",
    ]);
  });

  test("an interruption leaves nothing", async () => {
    const folder = await folderWithAdapter();
    await using parent = await openAdapter(join(folder, "cat.safetensors"));
    const plan = await planResize(parent, [{ kind: "rank", rank: 4 }], { outDir: folder });
    const controller = new AbortController();
    const run = resize(plan, { signal: controller.signal, onProgress: () => controller.abort() });
    await expect(run).rejects.toMatchObject({ code: "E_INTERRUPTED" });
    expect(await readdir(folder)).toEqual(["cat.safetensors"]);
  });

  test("factors that are not finite are named, and nothing is written", async () => {
    const folder = await folderWithAdapter();
    const path = join(folder, "cat.safetensors");
    const bytes = await readFile(path);
    const { tensors } = await readHeader(path);
    const name = "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight";
    bytes.writeFloatLE(Number.NaN, tensors.get(name)!.offsetBytes);
    await writeFile(path, bytes);
    await expect(resizeIn(folder, [{ kind: "rank", rank: 4 }])).rejects.toMatchObject({
      code: "E_FORMAT",
      message: expect.stringContaining(
        "module lora_te_text_model_encoder_layers_0_mlp_fc1 holds infinity or NaN",
      ),
    });
    expect(await readdir(folder)).toEqual(["cat.safetensors"]);
  });
});
