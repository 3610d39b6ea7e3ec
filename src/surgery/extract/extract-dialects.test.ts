/** Extraction from files of diffusers and PEFT: the copies are what kohya's copies are, in the parent's dialect. */
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { everyKindOfModule, writeRandomAdapter } from "../../../test/helpers/random-adapter.js";
import { tempFolder } from "../../../test/helpers/temp-folder.js";
import {
  type Adapter,
  ALPHA_RULES,
  openAdapter,
  readFactors,
  type WrittenDialect,
} from "../../adapter/index.js";
import { readHeader, SafetensorsFile } from "../../safetensors/index.js";
import { convert } from "../convert/convert.js";
import { planConvert } from "../convert/plan.js";
import { type ExtractReport, extract, type RunExtractOptions } from "./extract.js";
import { type ExtractOptions, planExtract } from "./plan-extract.js";
import type { RankSelection } from "./select-ranks.js";

const METADATA = {
  ss_network_module: "networks.dylora",
  ss_network_dim: "8",
  ss_network_alpha: "4.0",
  ss_network_args: '{"unit": "2"}',
};

let folder: string;
const at = (name: string) => join(folder, name);

beforeEach(async () => {
  folder = await tempFolder();
  // Convolutions of a lower rank: their own alpha at most ranks.
  await writeRandomAdapter(at("kohya"), {
    modules: everyKindOfModule(8, 3),
    metadata: METADATA,
    hashes: true,
  });
  for (const to of ["diffusers", "peft"] as const) {
    await using source = await openAdapter(at("kohya"));
    await convert(await planConvert(source, { to, path: at(to) }));
  }
});

it("a kohya file never says ranks and alphas in diffusers' key", async () => {
  await writeRandomAdapter(at("kohya"), {
    modules: everyKindOfModule(8),
    metadata: { ...METADATA, lora_adapter_metadata: '{"unet.r": 8}' },
  });
  const { outputs } = await run("kohya", { ranks: [4] });
  await using copy = await openAdapter(outputs[0]!.path);
  expect(copy.metadata).not.toHaveProperty("lora_adapter_metadata");
  expect(copy.metadata.ss_network_dim).toBe("4");
});

async function run(
  dialect: WrittenDialect,
  selection: RankSelection,
  options: ExtractOptions = {},
  runOptions: RunExtractOptions = {},
): Promise<ExtractReport> {
  await using parent = await openAdapter(at(dialect));
  return await extract(planExtract(parent, selection, { outDir: at("out"), ...options }), runOptions);
}

/** Everything that a loader would do with an adapter. */
async function functionOf(adapter: Adapter): Promise<object> {
  const entries = adapter.modules.map(async (module) => {
    const { down, upT } = await readFactors(adapter.file, module);
    return [module.name, { rank: module.rank, alpha: Math.fround(module.alpha), down, upT }] as const;
  });
  return Object.fromEntries((await Promise.all(entries)).sort(([a], [b]) => (a < b ? -1 : 1)));
}

describe.each(["diffusers", "peft"] as const)("%s", (dialect) => {
  it.each(ALPHA_RULES)("copies by the rule %s are the same adapters as kohya's", async (alphaRule) => {
    const options = { alphaRule, dtype: "F32" } as const;
    const [own, kohya] = [
      await run(dialect, { all: true }, options),
      await run("kohya", { all: true }, options),
    ];
    expect(own.outputs.map(({ rank }) => rank)).toEqual([2, 4, 6, 8]);
    for (const [i, { path }] of own.outputs.entries()) {
      await using copy = await openAdapter(path);
      await using expected = await openAdapter(kohya.outputs[i]!.path);
      expect(copy.dialect).toBe(dialect);
      expect(await functionOf(copy)).toEqual(await functionOf(expected));
      expect(copy.metadata).toMatchObject({
        ss_network_dim: String(own.outputs[i]!.rank),
        dylora_alpha_rule: alphaRule,
      });
    }
  });

  it("has the sizes and the names that were planned, and nothing else", async () => {
    await using parent = await openAdapter(at(dialect));
    const plan = planExtract(parent, { ranks: [2, 8] }, { outDir: at("out"), name: "cat-{rank}" });
    const progress: number[] = [];
    const report = await extract(plan, {
      onProgress: ({ doneBytes, totalBytes }) => progress.push(doneBytes / totalBytes),
    });
    expect(report.outputs.map(({ path, sizeBytes }) => [path, sizeBytes])).toEqual(
      plan.outputs.map(({ path, sizeBytes }) => [path, sizeBytes]),
    );
    expect(progress).toEqual([...progress].sort((a, b) => a - b));
    expect(progress.at(-1)).toBe(1);
    expect((await readdir(at("out"))).sort()).toEqual(
      dialect === "peft" ? ["cat-2", "cat-8"] : ["cat-2.safetensors", "cat-8.safetensors"],
    );
    const files = report.outputs.flatMap((output) => output.files ?? [output]);
    for (const { path, sizeBytes, dataSha256 } of files) {
      expect((await readFile(path)).length).toBe(sizeBytes);
      expect((await readHeader(path)).metadata).toMatchObject({ sshs_model_hash: dataSha256 });
    }
  });

  it("a copy converts to kohya like the whole", async () => {
    const { outputs } = await run(dialect, { ranks: [4] });
    const expected = (await run("kohya", { ranks: [4] })).outputs[0]!.path;
    await using copy = await openAdapter(outputs[0]!.path);
    await convert(await planConvert(copy, { to: "kohya", path: at("back") }));
    await using back = await openAdapter(at("back"));
    await using kohya = await openAdapter(expected);
    expect(await functionOf(back)).toEqual(await functionOf(kohya));
    expect(
      [...back.file.header.tensors.values()].map(({ name, dtype, shape }) => [name, dtype, shape]),
    ).toEqual([...kohya.file.header.tensors.values()].map(({ name, dtype, shape }) => [name, dtype, shape]));
  });

  it("refuses to replace what is there, and leaves nothing behind when it is stopped", async () => {
    await run(dialect, { ranks: [2] });
    const before = await readdir(at("out"), { recursive: true });
    await expect(run(dialect, { ranks: [2, 4] })).rejects.toMatchObject({ code: "E_EXISTS" });
    const controller = new AbortController();
    const options = { overwrite: true, signal: controller.signal, onProgress: () => controller.abort() };
    await expect(run(dialect, { ranks: [2, 4] }, {}, options)).rejects.toMatchObject({
      code: "E_INTERRUPTED",
    });
    expect(await readdir(at("out"), { recursive: true })).toEqual(before);
    await run(dialect, { ranks: [2, 4] }, {}, { overwrite: true });
    expect((await readdir(at("out"))).length).toBe(2);
  });
});

it("diffusers: a copy of a file without alphas says what its alpha is", async () => {
  await using parent = await SafetensorsFile.open(at("diffusers"));
  const { writeSafetensors } = await import("../../safetensors/index.js");
  const sources = [...parent.header.tensors.values()].map(({ name, dtype, shape }) => ({
    name,
    dtype,
    shape,
    data: () => parent.read(name),
  }));
  await writeSafetensors(at("plain"), sources, { metadata: null });
  await using plain = await openAdapter(at("plain"));
  const { outputs } = await extract(planExtract(plain, { ranks: [2] }, { outDir: at("out") }));
  await using copy = await openAdapter(outputs[0]!.path);
  // Rank 8 with alpha 8, by the paper's rule; the convolutions of rank 3 had alpha 3.
  expect(new Set(copy.modules.map(({ rank, alpha }) => `${rank} ${alpha}`))).toEqual(new Set(["2 8", "2 3"]));
});

describe("PEFT", () => {
  it("keeps the other fields of the configuration", async () => {
    const path = join(at("peft"), "unet", "adapter_config.json");
    const config = JSON.parse(await readFile(path, "utf8"));
    await writeFile(path, JSON.stringify({ ...config, base_model_name_or_path: "sd15", lora_dropout: 0.1 }));
    const { outputs } = await run("peft", { ranks: [2] });
    const copy = JSON.parse(await readFile(join(outputs[0]!.path, "unet", "adapter_config.json"), "utf8"));
    expect(copy).toMatchObject({
      base_model_name_or_path: "sd15",
      lora_dropout: 0.1,
      r: 2,
      rank_pattern: {},
    });
  });

  it("does not replace a folder with other files, nor the parent's", async () => {
    const { outputs } = await run("peft", { ranks: [2] });
    await writeFile(join(outputs[0]!.path, "README.md"), "mine");
    await expect(run("peft", { ranks: [2] }, {}, { overwrite: true })).rejects.toMatchObject({
      code: "E_EXISTS",
    });
    const onParent = run("peft", { ranks: [2] }, { outDir: folder, name: "peft" }, { overwrite: true });
    await expect(onParent).rejects.toMatchObject({ code: "E_EXISTS" });
    expect((await readdir(at("peft"))).sort()).toEqual(["text_encoder", "unet"]);
  });
});
