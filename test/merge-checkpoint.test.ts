/** Adapters merged into a base model: the merged file computes what the base model with the adapter computes. */
import { existsSync } from "node:fs";
import { copyFile, mkdir, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import { openAdapter, readFactors } from "../src/adapter/index.js";
import { Denoiser } from "../src/denoiser/denoiser.js";
import type { ActiveModule } from "../src/denoiser/factors.js";
import { TextConditioner } from "../src/denoiser/text-conditioner.js";
import { type CheckpointConfigs, openCheckpoint, sha256OfFile } from "../src/models/checkpoint/index.js";
import { loraTargets } from "../src/models/lora-targets.js";
import { readHeader, SafetensorsFile, writeSafetensors } from "../src/safetensors/index.js";
import { extract, planExtract } from "../src/surgery/index.js";
import { planMergeIntoBase, runMergeIntoBase } from "../src/surgery/merge/base.js";
import { relativeDifference } from "./helpers/matrix.js";
import { randomValues, writeRandomAdapter } from "./helpers/random-adapter.js";
import { modulesForModel, writeRandomDiffusers, writeRandomSingleFile } from "./helpers/random-checkpoint.js";
import { tempFolder } from "./helpers/temp-folder.js";
import { SD1_TINY, SD2_TINY } from "./helpers/tiny-checkpoints.js";

const RATIO = -1.5;

async function mergeInto(
  base: string,
  parts: readonly { path: string; ratio: number }[],
  out: string,
  options: { overwrite?: boolean; signal?: AbortSignal } = {},
) {
  const adapters = await Promise.all(parts.map(({ path }) => openAdapter(path)));
  try {
    const inputs = parts.map(({ ratio }, i) => ({ adapter: adapters[i]!, ratio }));
    return await runMergeIntoBase(await planMergeIntoBase(base, inputs, out), options);
  } finally {
    for (const adapter of adapters) await adapter.close();
  }
}

/** U-Net output and text encoder output for a fixed input. */
async function run(path: string, adapter: { path: string; ratio: number } | null) {
  const checkpoint = await openCheckpoint(path);
  const { unet, textEncoder } = checkpoint;
  const targets = loraTargets({ unet: unet.config, textEncoder: textEncoder.config }, { convDim: true });
  const modules: ActiveModule[] = [];
  if (adapter !== null) {
    await using file = await openAdapter(adapter.path);
    for (const module of file.modules) {
      const { down, upT } = await readFactors(file.file, module);
      const { rank, alpha } = module;
      const target = targets.find(({ name }) => name === module.name)!;
      modules.push({
        factors: { target, maxRank: rank, alpha, down, up: upT },
        rank,
        scale: (adapter.ratio * alpha) / rank,
      });
    }
  } else {
    // The same graph with every branch switched off, so that only the weights differ.
    for (const target of targets) {
      const columns = target.inFeatures * (target.kind === "conv3x3" ? 9 : 1);
      const factors = {
        target,
        maxRank: 1,
        alpha: 1,
        down: new Float32Array(columns),
        up: new Float32Array(target.outFeatures),
      };
      modules.push({ factors, rank: 0, scale: 0 });
    }
  }
  const denoiser = new Denoiser({ checkpoint, targets, device: "cpu", mode: "lean", threads: 1 });
  try {
    const sample = randomValues(unet.config.inChannels * 64, 7).map((value) => value * 10);
    const tokens = [Array.from({ length: 77 }, (_, i) => (i * 13) % 99)];
    return await denoiser.predict(
      { count: 1, height: 8, width: 8, sample, timesteps: [421], text: { tokens } },
      modules,
    );
  } finally {
    await denoiser.release();
  }
}

async function randomAdapterFor(configs: CheckpointConfigs, path: string, rank = 5) {
  await writeRandomAdapter(path, {
    modules: modulesForModel(configs, rank),
    dtype: "F32",
    alpha: 30,
    seed: 77,
  });
}

describe.each([
  ["SD 1 in one file", SD1_TINY, writeRandomSingleFile],
  ["SD 2 in one file, q, k and v of its text encoder packed", SD2_TINY, writeRandomSingleFile],
  ["SD 1 as a diffusers folder", SD1_TINY, writeRandomDiffusers],
  ["SD 2 as a diffusers folder", SD2_TINY, writeRandomDiffusers],
] as const)("%s", (_title, configs, writeBase) => {
  let folder: string;
  const at = (name: string) => join(folder, name);
  beforeAll(async () => {
    folder = await tempFolder();
    await writeBase(at("base"), configs);
    await randomAdapterFor(configs, at("adapter.safetensors"));
  });

  test("the merged model computes what the adapted one computes", async () => {
    const adapter = { path: at("adapter.safetensors"), ratio: RATIO };
    const report = await mergeInto(at("base"), [adapter], at("merged"));
    expect(report.changedModules).toBe(modulesForModel(configs, 1).length);
    const [patched, merged, plain] = [
      await run(at("base"), adapter),
      await run(at("merged"), null),
      await run(at("base"), null),
    ];
    // The adapter matters, or the comparison would say nothing.
    expect(relativeDifference(patched.prediction, plain.prediction)).toBeGreaterThan(0.05);
    expect(relativeDifference(patched.context!, plain.context!)).toBeGreaterThan(0.05);
    // Float32 weights and activations; the order of the additions differs. The golden data allows 2e-5.
    expect(relativeDifference(merged.prediction, patched.prediction)).toBeLessThan(2e-5);
    expect(relativeDifference(merged.context!, patched.context!)).toBeLessThan(2e-5);
  });
});

describe("in float16", () => {
  test("every type is kept, and the report says how much of the change was lost", async () => {
    const folder = await tempFolder();
    const [base, adapter, out] = ["base.safetensors", "a.safetensors", "out.safetensors"].map((name) =>
      join(folder, name),
    ) as [string, string, string];
    await writeRandomSingleFile(base, SD1_TINY, "F16", { format: "pt", "modelspec.hash_sha256": "0xdead" });
    await randomAdapterFor(SD1_TINY, adapter);
    const report = await mergeInto(base, [{ path: adapter, ratio: 1 }], out);
    const [before, after] = [await readHeader(base), await readHeader(out)];
    expect([...after.tensors.keys()].sort()).toEqual([...before.tensors.keys()].sort());
    for (const tensor of after.tensors.values()) expect(tensor.dtype).toBe("F16");
    expect(after.metadata).toMatchObject({ format: "pt", "modelspec.merged_from": "base, a" });
    expect(after.metadata).not.toHaveProperty("modelspec.hash_sha256");
    // Half a unit in the last place of weights that are as large as the change.
    expect(report.rounding).toBeGreaterThan(2 ** -14);
    expect(report.rounding).toBeLessThan(2 ** -9);
    const patched = await run(base, { path: adapter, ratio: 1 });
    // Each weight is off by 2^-12 of itself on average; a handful of layers add that up.
    expect(relativeDifference((await run(out, null)).prediction, patched.prediction)).toBeLessThan(3e-3);
  });

  test("tensors without a module are copied byte for byte; two adapters add up", async () => {
    const folder = await tempFolder();
    const [base, a, b, out] = ["base", "a", "b", "out"].map((name) =>
      join(folder, `${name}.safetensors`),
    ) as [string, string, string, string];
    await writeRandomSingleFile(base, SD2_TINY, "BF16");
    const modules = modulesForModel(SD2_TINY, 2);
    const touched = modules.filter(
      ({ name }) => name.includes("layers_1_self_attn_k_proj") || name.includes("mid_block_resnets_0_conv1"),
    );
    expect(touched).toHaveLength(2);
    await writeRandomAdapter(a, { modules: touched, seed: 3 });
    await writeRandomAdapter(b, { modules: touched.slice(0, 1), seed: 4 });
    const report = await mergeInto(
      base,
      [
        { path: a, ratio: 1 },
        { path: b, ratio: 0.5 },
      ],
      out,
    );
    expect(report).toMatchObject({ changedModules: 2, changedTensors: 2 });
    await using before = await SafetensorsFile.open(base);
    await using after = await SafetensorsFile.open(out);
    const packed = "cond_stage_model.model.transformer.resblocks.1.attn.in_proj_weight";
    const changed = ["model.diffusion_model.middle_block.0.in_layers.2.weight", packed];
    for (const name of before.header.tensors.keys()) {
      const same = Buffer.compare(await before.read(name), await after.read(name)) === 0;
      expect([name, same]).toEqual([name, !changed.includes(name)]);
    }
    // q before and v behind the changed k are untouched.
    const third = before.info(packed).sizeBytes / 3;
    for (const part of [0, 2]) {
      const [was, is] = await Promise.all(
        [before, after].map((file) => file.readRange(packed, part * third, (part + 1) * third)),
      );
      expect(Buffer.compare(was!, is!)).toBe(0);
    }
  });
});

describe("a diffusers folder", () => {
  const isMid = (name: string) => name.startsWith("mid_block.");

  async function cluttered() {
    const folder = await tempFolder();
    const base = join(folder, "base");
    await writeRandomDiffusers(base, SD1_TINY, "F16");
    await writeFile(join(base, "scheduler", "scheduler_config.json"), "{}");
    await writeFile(join(base, "v1-5.ckpt"), "pickle");
    await writeFile(join(base, "README.md"), "read me");
    await writeFile(join(base, "unet", "diffusion_pytorch_model.fp16.safetensors"), "the base model again");
    await writeFile(join(base, "unet", "diffusion_pytorch_model.bin"), "and again");
    await writeFile(join(base, "text_encoder", "pytorch_model.bin"), "the text encoder");
    await mkdir(join(base, ".cache"));
    await writeFile(join(base, ".cache", "x"), "x");
    // As in the Hugging Face cache.
    const blob = join(folder, "blob");
    await copyFile(join(base, "unet", "config.json"), blob);
    await symlink(blob, join(base, "unet", "linked.json"));
    const adapter = join(folder, "a.safetensors");
    const unetOnly = modulesForModel(SD1_TINY, 2).filter(({ name }) => name.startsWith("lora_unet"));
    await writeRandomAdapter(adapter, { modules: unetOnly });
    return { folder, base, adapter, out: join(folder, "merged") };
  }

  test("is copied with all of its files but weights that would hold the unmerged model", async () => {
    const { base, adapter, out } = await cluttered();
    const report = await mergeInto(base, [{ path: adapter, ratio: 1 }], out);
    expect((await readdir(out, { recursive: true })).sort()).toEqual(
      [
        "README.md",
        "model_index.json",
        "scheduler",
        "scheduler/scheduler_config.json",
        "text_encoder",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "text_encoder/pytorch_model.bin",
        "unet",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/linked.json",
      ].sort(),
    );
    const note = report.notes.find((text) => text.includes("not taken over"))!;
    for (const name of [
      "v1-5.ckpt",
      "unet/diffusion_pytorch_model.fp16.safetensors",
      "unet/diffusion_pytorch_model.bin",
    ]) {
      expect(note).toContain(name);
    }
    const encoder = join("text_encoder", "model.safetensors");
    expect(await sha256OfFile(join(out, encoder))).toBe(await sha256OfFile(join(base, encoder)));
    const { metadata } = await readHeader(join(out, "unet", "diffusion_pytorch_model.safetensors"));
    expect(metadata).toMatchObject({ format: "pt", "modelspec.merged_from": "base, a" });
    expect(report.sizeBytes).toBe(await folderSize(out));
  });

  test("in shards, of which one changes, keeps all of them and their index", async () => {
    const folder = await tempFolder();
    const base = join(folder, "base");
    await writeRandomDiffusers(base, SD1_TINY, "F16");
    const whole = join(base, "unet", "diffusion_pytorch_model.safetensors");
    const index: Record<string, string> = {};
    {
      await using file = await SafetensorsFile.open(whole);
      for (const [i, isInShard] of [isMid, (name: string) => !isMid(name)].entries()) {
        const shard = `diffusion_pytorch_model-0000${i + 1}-of-00002.safetensors`;
        const tensors = [...file.header.tensors.values()].filter(({ name }) => isInShard(name));
        for (const { name } of tensors) index[name] = shard;
        const sources = tensors.map((tensor) => ({ ...tensor, data: () => file.read(tensor.name) }));
        await writeSafetensors(join(base, "unet", shard), sources, { metadata: { format: "pt" } });
      }
    }
    await rm(whole);
    const indexName = "diffusion_pytorch_model.safetensors.index.json";
    await writeFile(join(base, "unet", indexName), JSON.stringify({ metadata: {}, weight_map: index }));
    const adapter = join(folder, "a.safetensors");
    const mid = modulesForModel(SD1_TINY, 2).filter(({ name }) => name.startsWith("lora_unet_mid_block"));
    await writeRandomAdapter(adapter, { modules: mid });

    const report = await mergeInto(base, [{ path: adapter, ratio: 1 }], join(folder, "merged"));
    expect(report).toMatchObject({ changedModules: mid.length, notes: [] });
    const names = (await readdir(join(base, "unet"))).sort();
    expect((await readdir(join(folder, "merged", "unet"))).sort()).toEqual(names);
    const hashes = async (root: string) =>
      Promise.all(names.map((name) => sha256OfFile(join(folder, root, "unet", name))));
    const [before, after] = [await hashes("base"), await hashes("merged")];
    expect(names.filter((_, i) => before[i] !== after[i])).toEqual([
      "diffusion_pytorch_model-00001-of-00002.safetensors",
    ]);
    // Every weight is found, the index being as it was.
    expect((await openCheckpoint(join(folder, "merged"))).unet.weights.size).toBe(Object.keys(index).length);
  });

  test("is replaced only with overwrite, and only if it is a model", async () => {
    const { folder, base, adapter, out } = await cluttered();
    const part = { path: adapter, ratio: 1 };
    await mergeInto(base, [part], out);
    await writeFile(join(out, "mine.txt"), "mine");
    await expect(mergeInto(base, [part], out)).rejects.toMatchObject({ code: "E_EXISTS" });
    expect(await readFile(join(out, "mine.txt"), "utf8")).toBe("mine");
    await mergeInto(base, [part], out, { overwrite: true });
    expect(await readdir(out)).not.toContain("mine.txt");
    const other = join(folder, "other");
    await mkdir(other);
    await expect(mergeInto(base, [part], other, { overwrite: true })).rejects.toMatchObject({
      code: "E_EXISTS",
    });
    await expect(mergeInto(base, [part], base, { overwrite: true })).rejects.toMatchObject({
      code: "E_EXISTS",
    });
    await expect(mergeInto(base, [part], join(base, "merged"))).rejects.toMatchObject({ code: "E_USAGE" });
    expect((await readdir(folder)).sort()).toEqual(["a.safetensors", "base", "blob", "merged", "other"]);
  });

  test("is not replaced where it holds what is read", async () => {
    const { base, adapter, out } = await cluttered();
    await mergeInto(base, [{ path: adapter, ratio: 1 }], out);
    const inside = join(out, "a.safetensors");
    await copyFile(adapter, inside);
    const replacing = mergeInto(base, [{ path: inside, ratio: 1 }], out, { overwrite: true });
    await expect(replacing).rejects.toMatchObject({
      code: "E_USAGE",
      message: expect.stringContaining("lies inside"),
    });
    expect(await readdir(out)).toContain("a.safetensors");
  });

  test("an interrupted merge leaves nothing", async () => {
    const { folder, base, adapter, out } = await cluttered();
    const signal = AbortSignal.abort();
    await expect(mergeInto(base, [{ path: adapter, ratio: 1 }], out, { signal })).rejects.toMatchObject({
      code: "E_INTERRUPTED",
    });
    expect((await readdir(folder)).sort()).toEqual(["a.safetensors", "base", "blob"]);
  });
});

async function folderSize(path: string): Promise<number> {
  const { stat } = await import("node:fs/promises");
  let size = 0;
  for (const name of await readdir(path, { recursive: true })) {
    const stats = await stat(join(path, name));
    if (stats.isFile()) size += stats.size;
  }
  return size;
}

test("an adapter of another model, and a sum that float16 cannot hold, are refused and nothing is written", async () => {
  const folder = await tempFolder();
  const [base, a, out] = ["base", "a", "out"].map((name) => join(folder, `${name}.safetensors`)) as [
    string,
    string,
    string,
  ];
  await writeRandomSingleFile(base, SD1_TINY, "F16");
  await writeRandomAdapter(a, { modules: modulesForModel(SD2_TINY, 2) });
  await expect(mergeInto(base, [{ path: a, ratio: 1 }], out)).rejects.toMatchObject({
    code: "E_INCOMPATIBLE",
    message: expect.stringContaining("do not fit"),
  });
  await writeRandomAdapter(a, { modules: modulesForModel(SD1_TINY, 2), alpha: 60000 });
  await expect(mergeInto(base, [{ path: a, ratio: 1000 }], out)).rejects.toMatchObject({
    code: "E_INCOMPATIBLE",
    message: expect.stringMatching(/the sum is -?Infinity in F16/),
  });
  expect((await readdir(folder)).sort()).toEqual(["a.safetensors", "base.safetensors"]);
});

const GOLDEN = fileURLToPath(new URL("../../shared/golden/", import.meta.url));

describe.skipIf(!existsSync(GOLDEN))(
  "golden data: the merged file gives PyTorch's answers for the adapted model",
  () => {
    test.each([
      ["sd1-tiny", "sd1-tiny/single-file.safetensors"],
      ["sd2-tiny", "sd2-tiny"],
    ])("%s", async (name, base) => {
      const folder = await tempFolder();
      await using cases = await SafetensorsFile.open(join(GOLDEN, name, "cases.safetensors"));
      const names = [...cases.header.tensors.keys()];
      const rank = Math.max(...names.flatMap((key) => Number(/^rank(\d+)\.out$/.exec(key)?.[1] ?? 0)));
      await using parent = await openAdapter(join(GOLDEN, name, "lora.safetensors"));
      // The cases scale by alpha / rank, as the paper does.
      const plan = planExtract(parent, { ranks: [rank] }, { outDir: folder, alphaRule: "paper" });
      const adapter = { path: (await extract(plan)).outputs[0]!.path, ratio: 1 };
      const out = join(folder, "merged");
      const report = await mergeInto(join(GOLDEN, base), [adapter], out);
      const answer = await cases.readFloat32(`rank${rank}.out`);
      const { prediction } = await runGolden(cases, out);
      const change = relativeDifference(answer, await cases.readFloat32("out.base"));
      expect(change).toBeGreaterThan(0.01);
      // The merged weights are float16: what their rounding took of the change, the output lacks of its change; layers do not
      // count alike, hence the factor.
      expect(relativeDifference(prediction, answer)).toBeLessThan(3 * report.rounding * change);
    });
  },
);

async function runGolden(cases: SafetensorsFile, path: string) {
  const checkpoint = await openCheckpoint(path);
  const [count, , height, width] = cases.info("sample").shape as [number, number, number, number];
  const ids = await cases.readFloat32("tokens");
  const tokens = Array.from({ length: count }, (_, row) => [...ids.subarray(row * 77, (row + 1) * 77)]);
  const conditioner = new TextConditioner({ checkpoint, device: "cpu", threads: 1 });
  const context = await conditioner.encodeBatch(tokens);
  await conditioner.release();
  const denoiser = new Denoiser({ checkpoint, targets: [], device: "cpu", mode: "lean", threads: 1 });
  try {
    const sample = await cases.readFloat32("sample");
    const timesteps = [...(await cases.readFloat32("timesteps"))];
    const text = { context, tokensPerPrompt: 77 };
    return await denoiser.predict({ count, height, width, sample, timesteps, text }, []);
  } finally {
    await denoiser.release();
  }
}
