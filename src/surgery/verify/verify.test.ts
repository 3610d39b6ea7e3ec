import { readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import {
  everyKindOfModule,
  type RandomModule,
  randomValues,
  writeRandomAdapter,
} from "../../../test/helpers/random-adapter.js";
import {
  modulesForModel,
  writeRandomDiffusers,
  writeRandomSingleFile,
} from "../../../test/helpers/random-checkpoint.js";
import { tempFolder } from "../../../test/helpers/temp-folder.js";
import { SD1_TINY, SD2_TINY } from "../../../test/helpers/tiny-checkpoints.js";
import { openAdapter } from "../../adapter/index.js";
import {
  type Dtype,
  encodeFromFloat32,
  readHeader,
  type TensorSource,
  writeSafetensors,
} from "../../safetensors/index.js";
import { convert } from "../convert/convert.js";
import { planConvert } from "../convert/plan.js";
import { editMetadata } from "../edit/edit.js";
import { verifyFile } from "./verify.js";

let folder: string;
beforeAll(async () => {
  folder = await tempFolder();
});
let files = 0;
const newPath = () => join(folder, `${files++}.safetensors`);

const NAME = "lora_unet_mid_block_attentions_0_proj_in";

/** A module whose factors are given, rank 3, 5 inputs, 4 outputs. */
async function oneModule(factors: {
  down?: number[];
  up?: number[];
  alpha?: number;
  dtype?: Dtype;
  metadata?: Record<string, string>;
  extra?: TensorSource[];
  hashes?: boolean;
}) {
  const {
    down = [...randomValues(15, 1)],
    up = [...randomValues(12, 2)],
    alpha = 2,
    dtype = "F32",
  } = factors;
  const tensor = (name: string, shape: number[], values: number[]): TensorSource => ({
    name: `${NAME}.${name}`,
    dtype,
    shape,
    data: () => encodeFromFloat32(Float32Array.from(values), dtype),
  });
  const path = newPath();
  await writeSafetensors(
    path,
    [
      tensor("lora_down.weight", [3, 5], down),
      tensor("lora_up.weight", [4, 3], up),
      tensor("alpha", [], [alpha]),
      ...(factors.extra ?? []),
    ],
    { metadata: factors.metadata ?? null, hashes: factors.hashes ?? false },
  );
  return path;
}

const codesOf = ({ problems }: { problems: readonly { severity: string; code: string }[] }) =>
  problems.map(({ severity, code }) => `${severity} ${code}`);

describe("a file in order", () => {
  test("has no problems, and its hash is told", async () => {
    const path = newPath();
    const { dataSha256 } = await writeRandomAdapter(path, {
      hashes: true,
      metadata: { ss_network_dim: "8", ss_network_alpha: "4.0", ss_base_model_version: "sd_v1" },
    });
    expect(await verifyFile(path)).toMatchObject({
      path,
      kind: "adapter",
      ok: true,
      counts: { error: 0, warning: 0, note: 0 },
      problems: [],
      tensorCount: 24,
      moduleCount: 8,
      dataSha256,
    });
  });

  test.each(["F16", "BF16", "F32", "F64"] as const)("%s", async (dtype) => {
    expect(codesOf(await verifyFile(await oneModule({ dtype })))).toEqual([]);
  });
});

describe("format", () => {
  test("a truncated file, a text, and a file that is not there", async () => {
    const path = await oneModule({});
    await truncate(path, 100);
    const report = await verifyFile(path);
    expect(report).toMatchObject({ kind: null, ok: false, dataSha256: null });
    expect(codesOf(report)).toEqual(["error format"]);
    await writeFile(path, "version https://git-lfs.github.com/spec/v1");
    expect(codesOf(await verifyFile(path))).toEqual(["error format"]);
    await expect(verifyFile(join(folder, "none"))).rejects.toMatchObject({ code: "E_NOT_FOUND" });
  });

  test("data that begin at an odd place", async () => {
    const path = await oneModule({});
    const bytes = await readFile(path);
    const length = Number(bytes.readBigUInt64LE(0));
    const shifted = Buffer.concat([
      Buffer.alloc(8),
      bytes.subarray(8, 8 + length),
      Buffer.from(" "),
      bytes.subarray(8 + length),
    ]);
    shifted.writeBigUInt64LE(BigInt(length + 1));
    await writeFile(path, shifted);
    expect(codesOf(await verifyFile(path))).toEqual(["note unaligned"]);
  });

  test("a module without its up factor, and a file that is no adapter", async () => {
    const path = newPath();
    const data = () => new Uint8Array(12);
    await writeSafetensors(path, [{ name: `${NAME}.lora_down.weight`, dtype: "F32", shape: [1, 3], data }]);
    expect(codesOf(await verifyFile(path))).toEqual(["error no-adapter"]);
    const other = newPath();
    await writeSafetensors(other, [{ name: "emb_params", dtype: "F32", shape: [1, 3], data }]);
    expect(await verifyFile(other)).toMatchObject({ kind: "tensors", ok: false });
  });
});

describe("hashes", () => {
  test("a flipped bit in the data", async () => {
    const path = await oneModule({ hashes: true, metadata: { ss_x: "y" } });
    const bytes = await readFile(path);
    bytes[bytes.length - 3]! ^= 1;
    await writeFile(path, bytes);
    expect(codesOf(await verifyFile(path))).toContain("error model-hash");
  });

  test("the hash of nothing, which a trainer once wrote", async () => {
    const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const report = await verifyFile(await oneModule({ metadata: { sshs_model_hash: empty } }));
    expect(codesOf(report)).toEqual(["error model-hash"]);
    expect(report.problems[0]!.message).toContain("the hash of no data at all");
  });

  test("a legacy hash that another program left behind; dylora's own edit keeps it right", async () => {
    const path = newPath();
    const modules = everyKindOfModule(512).filter(({ name }) => name.includes("attn2"));
    await writeRandomAdapter(path, { modules, dtype: "F32", metadata: { ss_a: "1" }, hashes: true });
    expect((await verifyFile(path)).problems).toEqual([]);
    await editMetadata(path, { set: { ss_b: "x".repeat(64) } }, { path });
    expect((await verifyFile(path)).problems).toEqual([]);
    const { metadata } = await readHeader(path);
    await writeRandomAdapter(path, {
      modules,
      dtype: "F32",
      metadata: { ...metadata, ss_c: "x".repeat(64) },
    });
    expect(codesOf(await verifyFile(path))).toEqual(["warning legacy-hash"]);
  });
});

describe("numbers", () => {
  test.each([
    ["F16", Number.NaN],
    ["BF16", Number.POSITIVE_INFINITY],
    ["F32", Number.NEGATIVE_INFINITY],
    ["F64", Number.NaN],
  ] as const)("%s %d", async (dtype, value) => {
    const up = [...randomValues(12, 2)];
    up[7] = value;
    const report = await verifyFile(await oneModule({ up, dtype }));
    expect(codesOf(report)).toEqual(["error not-finite"]);
    expect(report.problems[0]).toMatchObject({
      message: expect.stringContaining(`${NAME}.lora_up.weight has 1, the first at index 7`),
      subjects: [`${NAME}.lora_up.weight`],
    });
  });

  test("a large float64 is finite", async () => {
    const path = newPath();
    const bytes = new Uint8Array(Float64Array.of(1e300).buffer);
    await writeSafetensors(path, [{ name: "x", dtype: "F64", shape: [1], data: () => bytes }]);
    expect(codesOf(await verifyFile(path))).toEqual(["error no-adapter"]);
  });
});

describe("dead modules", () => {
  const zeros = (count: number) => new Array<number>(count).fill(0);

  test("an up factor that is zero: saved before the first step", async () => {
    const report = await verifyFile(await oneModule({ up: zeros(12) }));
    expect(codesOf(report)).toEqual(["error dead-modules"]);
    expect(report.problems[0]!.message).toContain("the file does nothing");
  });

  test("factors that are not zero, and a product that is", async () => {
    const down = [...randomValues(5, 1), ...zeros(10)];
    const up = [...randomValues(12, 2)].map((value, i) => (i % 3 === 0 ? 0 : value));
    expect(codesOf(await verifyFile(await oneModule({ down, up })))).toEqual(["error dead-modules"]);
  });

  test("zero components", async () => {
    const up = [...randomValues(12, 2)].map((value, i) => (i % 3 === 2 ? 0 : value));
    const report = await verifyFile(await oneModule({ up }));
    expect(codesOf(report)).toEqual(["note dead-components"]);
    expect(report.problems[0]!.message).toContain("1 components in 1 modules");
  });

  test("one of several, in every kind of module, across the pieces that are read at once", async () => {
    const path = newPath();
    const modules: RandomModule[] = [
      ...everyKindOfModule(5),
      // Larger than a piece of 1 MiB, and no power of two.
      {
        name: "lora_unet_up_blocks_1_attentions_0_transformer_blocks_0_ff_net_0_proj",
        kind: "linear",
        rank: 7,
        inFeatures: 90_001,
        outFeatures: 70_003,
      },
    ];
    await writeRandomAdapter(path, { modules, dtype: "F32" });
    expect(codesOf(await verifyFile(path))).toEqual([]);
    const { tensors } = await readHeader(path);
    const big = modules.at(-1)!.name;
    const bytes = await readFile(path);
    const up = tensors.get(`${big}.lora_up.weight`)!;
    // Component 4, in every row.
    for (let row = 0; row < 70_003; row++)
      bytes.fill(0, up.offsetBytes + (row * 7 + 4) * 4, up.offsetBytes + (row * 7 + 5) * 4);
    const down = tensors.get(`${big}.lora_down.weight`)!;
    const rowBytes = down.sizeBytes / 7;
    bytes.fill(0, down.offsetBytes + 2 * rowBytes, down.offsetBytes + 3 * rowBytes);
    const conv = tensors.get(`${modules[4]!.name}.lora_down.weight`)!;
    bytes.fill(0, conv.offsetBytes, conv.offsetBytes + conv.sizeBytes);
    await writeFile(path, bytes);
    const report = await verifyFile(path);
    expect(codesOf(report)).toEqual(["warning dead-modules", "note dead-components"]);
    expect(report.problems.map(({ subjects }) => subjects)).toEqual([[modules[4]!.name], [big]]);
    expect(report.problems[1]!.message).toContain("2 components");
  });
});

describe("alpha and metadata", () => {
  test.each([
    [{ alpha: 0 }, ["warning alpha-zero"]],
    [{ alpha: -1 }, ["warning alpha-negative"]],
    [{ alpha: 1e6 }, ["warning alpha-large"]],
    [{ metadata: { ss_network_dim: "3", ss_network_alpha: "2.0" } }, []],
    [{ metadata: { ss_network_dim: "Dynamic", ss_network_alpha: "Dynamic" } }, []],
    [
      { metadata: { ss_network_dim: "64", ss_network_alpha: "8" } },
      ["warning metadata-rank", "warning metadata-alpha"],
    ],
    [{ metadata: { ss_network_args: "{" } }, ["warning metadata-network-args"]],
  ])("%j", async (factors, codes) => {
    expect(codesOf(await verifyFile(await oneModule(factors)))).toEqual(codes);
  });

  test("no alpha, and a base model by name that shapes contradict", async () => {
    const path = newPath();
    await writeRandomAdapter(path, { alpha: null, metadata: { ss_base_model_version: "sd_v2" } });
    const report = await verifyFile(path);
    expect(codesOf(report)).toEqual(["warning metadata-base-model", "note alpha-missing"]);
    expect(report.problems[0]!.message).toContain("say sd_v2");
  });

  test("modules that are no plain LoRA, and tensors that nobody knows", async () => {
    const data = () => new Uint8Array(4);
    const extra = [
      { name: "lora_unet_x.hada_w1_a", dtype: "F32", shape: [1], data },
      { name: "who.knows", dtype: "F32", shape: [1], data },
    ] as const;
    const report = await verifyFile(await oneModule({ extra: [...extra] }));
    expect(codesOf(report)).toEqual(["warning unknown-tensors", "note foreign-modules"]);
    expect(report.ok).toBe(true);
  });
});

describe("folders", () => {
  test("of PEFT: every part is read, and names tell which", async () => {
    const [source, path] = [newPath(), join(folder, `peft-${files++}`)];
    await writeRandomAdapter(source, { modules: modulesForModel(SD1_TINY, 2) });
    await using adapter = await openAdapter(source);
    await convert(await planConvert(adapter, { to: "peft", path }));
    const report = await verifyFile(path);
    expect(report).toMatchObject({
      kind: "adapter",
      ok: true,
      moduleCount: adapter.modules.length,
      dataSha256: null,
    });
    expect(report.problems).toEqual([]);
    const weights = join(path, "unet", "adapter_model.safetensors");
    const bytes = await readFile(weights);
    const [first] = (await readHeader(weights)).tensors.values();
    bytes.fill(0, first!.offsetBytes, first!.offsetBytes + first!.sizeBytes);
    bytes.fill(0xff, bytes.length - 2);
    await writeFile(weights, bytes);
    const damaged = await verifyFile(path);
    expect(codesOf(damaged)).toEqual(["error not-finite", "warning dead-modules"]);
    expect(damaged.problems[0]!.subjects).toEqual([expect.stringMatching(/^unet\/base_model\.model\./)]);
  });

  test("of a model, and of neither", async () => {
    const path = await writeRandomDiffusers(join(folder, `model-${files++}`), SD1_TINY, "F16");
    expect(await verifyFile(path)).toMatchObject({
      kind: "checkpoint",
      ok: true,
      moduleCount: 0,
      problems: [],
    });
    const report = await verifyFile(await tempFolder());
    expect(report).toMatchObject({ kind: null, ok: false });
    expect(codesOf(report)).toEqual(["error format"]);
  });
});

describe("against a base model", () => {
  test("one that fits, and how much of it is covered", async () => {
    const [base, path] = [newPath(), newPath()];
    await writeRandomSingleFile(base, SD1_TINY, "F16");
    const modules = modulesForModel(SD1_TINY, 2).filter(({ name }) => name.startsWith("lora_unet"));
    await writeRandomAdapter(path, { modules });
    const report = await verifyFile(path, { basePath: base });
    expect(codesOf(report)).toEqual(["note base-coverage"]);
    expect(report.problems[0]!.message).toMatch(
      /: (\d+) of \1 modules of the U-Net, 0 of 12 modules of the text encoder\.$/,
    );
  });

  test("one that predicts something else", async () => {
    const path = newPath();
    const modules = modulesForModel(SD2_TINY, 2);
    await writeRandomAdapter(path, { modules, metadata: { ss_base_model_version: "sd_v2_v" } });
    for (const [says, expected] of [
      ["epsilon", ["warning base-prediction", "note base-coverage"]],
      ["v", ["note base-coverage"]],
      [null, ["note base-coverage"]],
    ] as const) {
      const base = newPath();
      const metadata = says === null ? null : { "modelspec.prediction_type": says };
      await writeRandomSingleFile(base, SD2_TINY, "F16", metadata);
      expect(codesOf(await verifyFile(path, { basePath: base }))).toEqual(expected);
    }
  });

  test("one that does not, and a base model as the file to verify", async () => {
    const [base, path] = [newPath(), newPath()];
    await writeRandomSingleFile(base, SD1_TINY, "F16");
    await writeRandomAdapter(path, { modules: modulesForModel(SD2_TINY, 2) });
    const report = await verifyFile(path, { basePath: base });
    expect(codesOf(report)).toEqual(["error base-mismatch"]);
    expect(report.problems[0]!.message).toContain("do not fit");
    expect(await verifyFile(base)).toMatchObject({ kind: "checkpoint", ok: true, moduleCount: 0 });
    expect(codesOf(await verifyFile(base, { basePath: base }))).toEqual(["error no-adapter"]);
    await expect(verifyFile(path, { basePath: path })).rejects.toMatchObject({ code: "E_INCOMPATIBLE" });
  });
});

test("an interrupted check", async () => {
  const path = await oneModule({});
  await expect(verifyFile(path, { signal: AbortSignal.abort() })).rejects.toMatchObject({
    code: "E_INTERRUPTED",
  });
});
