import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { mountTinyDisk } from "../../../test/helpers/full-disk.js";
import {
  everyKindOfModule,
  type RandomAdapterOptions,
  writeRandomAdapter,
} from "../../../test/helpers/random-adapter.js";
import { type Adapter, ALPHA_RULES, type LoraModule, openAdapter } from "../../adapter/index.js";
import {
  computeModelHash,
  decodeToFloat32,
  elementBytes,
  encodeFromFloat32,
  writeSafetensors,
} from "../../safetensors/index.js";
import { extractedAlpha } from "./alpha-rule.js";
import { type ExtractReport, extract, type RunExtractOptions } from "./extract.js";
import { type ExtractOptions, planExtract } from "./plan-extract.js";
import type { RankSelection } from "./select-ranks.js";

let folder: string;
let parentPath: string;
let outDir: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "dylora-extract-"));
  parentPath = join(folder, "cat.safetensors");
  outDir = join(folder, "out");
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

const DYLORA = { ss_network_module: "networks.dylora", ss_network_dim: "8", ss_network_alpha: "4.0" };
const PAPER = { ...DYLORA, ss_network_args: '{"unit": "2", "alpha_rule": "paper"}' };

async function run(
  selection: RankSelection | null,
  options: ExtractOptions & RunExtractOptions = {},
): Promise<ExtractReport> {
  await using parent = await openAdapter(parentPath);
  return await extract(planExtract(parent, selection, { outDir, ...options }), options);
}

/** Checks every tensor of a copy against its parent, byte for byte, in the plainest way there is. */
async function expectPrefix(
  parent: Adapter,
  copy: Adapter,
  rank: number | ((module: LoraModule) => number),
): Promise<void> {
  expect(copy.modules.map(({ name }) => name).sort()).toEqual(parent.modules.map(({ name }) => name).sort());
  const parents = new Map(parent.modules.map((module) => [module.name, module]));
  for (const module of copy.modules) {
    const whole = parents.get(module.name)!;
    const expectedRank = Math.min(typeof rank === "number" ? rank : rank(module), whole.rank);
    expect(module).toMatchObject({ rank: expectedRank, kind: whole.kind, component: whole.component });
    expect(module.down.shape).toEqual([expectedRank, ...whole.down.shape.slice(1)]);
    expect(module.up.shape).toEqual([whole.outFeatures, expectedRank, ...whole.up.shape.slice(2)]);
    expect([module.down.dtype, module.up.dtype]).toEqual([whole.down.dtype, whole.up.dtype]);

    const wholeDown = await parent.file.read(whole.down.name);
    const down = await copy.file.read(module.down.name);
    // Compared as buffers: expect() looks at every byte of an array by itself.
    expect(Buffer.compare(down, wholeDown.subarray(0, (wholeDown.length / whole.rank) * expectedRank))).toBe(
      0,
    );
    const wholeUp = await parent.file.read(whole.up.name);
    const size = elementBytes(whole.up.dtype)!;
    const columns = Array.from({ length: whole.outFeatures }, (_, row) => {
      const begin = row * whole.rank * size;
      return wholeUp.subarray(begin, begin + expectedRank * size);
    });
    expect(Buffer.compare(await copy.file.read(module.up.name), Buffer.concat(columns))).toBe(0);
  }
}

describe("every tensor is the prefix of its parent, byte for byte", () => {
  const parents: [string, RandomAdapterOptions][] = [
    ["float16", { dtype: "F16" }],
    ["bfloat16, alpha float32", { dtype: "BF16", alphaDtype: "F32" }],
    ["float32", { dtype: "F32" }],
    ["float64", { dtype: "F64" }],
    ["float8, alpha float16", { dtype: "F8_E4M3", alphaDtype: "F16" }],
    ["float16, alpha int64", { dtype: "F16", alphaDtype: "I64" }],
    ["convolutions of a rank of their own", { modules: everyKindOfModule(8, 3) }],
    ["convolutions of a higher rank", { modules: everyKindOfModule(5, 8) }],
    ["an odd rank", { modules: everyKindOfModule(7) }],
  ];
  it.each(parents)("%s", async (_, options) => {
    await writeRandomAdapter(parentPath, options);
    const { outputs } = await run({ all: true });
    await using parent = await openAdapter(parentPath);
    expect(outputs.map(({ rank }) => rank)).toEqual(Array.from({ length: parent.maxRank }, (__, i) => i + 1));
    for (const { rank, path, sizeBytes, dataSha256 } of outputs) {
      await using copy = await openAdapter(path);
      await expectPrefix(parent, copy, rank);
      expect(copy.modules.every(({ alpha }) => alpha === 4)).toBe(true);
      expect(copy.file.sizeBytes).toBe(sizeBytes);
      expect(await computeModelHash(copy.file)).toBe(dataSha256);
      expect(copy.metadata).toMatchObject({ sshs_model_hash: dataSha256, ss_network_dim: String(rank) });
    }
    expect(readdirSync(outDir).sort()).toEqual(outputs.map(({ rank }) => `cat-r${rank}.safetensors`).sort());
  });

  it("the maximum is the parent itself", async () => {
    await writeRandomAdapter(parentPath, { hashes: true, metadata: PAPER });
    const { parent, outputs } = await run({ ranks: [8] });
    expect(outputs[0]!.dataSha256).toBe(parent.dataSha256);
    expect(parent.hashMatches).toBe(true);
  });

  it("tensors larger than a chunk, files larger than a buffer, hashes on other threads", async () => {
    // 2.2 million columns of one row are 4.4 MB; 9 ranks of it exceed what is hashed on the main thread.
    const wide = {
      name: "lora_unet_wide",
      kind: "linear",
      rank: 3,
      inFeatures: 2_200_000,
      outFeatures: 3,
    } as const;
    const tall = {
      name: "lora_unet_tall",
      kind: "linear",
      rank: 3,
      inFeatures: 3,
      outFeatures: 2_200_001,
    } as const;
    await writeRandomAdapter(parentPath, { modules: [wide, tall] });
    const { outputs } = await run({ all: true });
    await using parent = await openAdapter(parentPath);
    const whole = {
      wide: await parent.file.read("lora_unet_wide.lora_down.weight"),
      tall: await parent.file.read("lora_unet_tall.lora_up.weight"),
    };
    const wholeTall = new Uint16Array(whole.tall.buffer);
    for (const { rank, path, dataSha256 } of outputs) {
      await using copy = await openAdapter(path);
      expect(await computeModelHash(copy.file)).toBe(dataSha256);
      const down = await copy.file.read("lora_unet_wide.lora_down.weight");
      expect(Buffer.compare(down, whole.wide.subarray(0, down.length))).toBe(0);
      const up = new Uint16Array((await copy.file.read("lora_unet_tall.lora_up.weight")).buffer);
      let different = 0;
      for (let row = 0; row < tall.outFeatures; row++) {
        for (let i = 0; i < rank; i++) if (up[row * rank + i] !== wholeTall[row * 3 + i]) different++;
      }
      expect(different).toBe(0);
    }
  });

  it("more files than one pass writes", async () => {
    const module = { name: "lora_unet_x", kind: "linear", rank: 150, inFeatures: 4, outFeatures: 5 } as const;
    await writeRandomAdapter(parentPath, { modules: [module] });
    const { outputs } = await run({ all: true });
    expect(outputs.length).toBe(150);
    await using parent = await openAdapter(parentPath);
    for (const { rank, path } of [outputs[0]!, outputs[127]!, outputs[128]!, outputs[149]!]) {
      await using copy = await openAdapter(path);
      await expectPrefix(parent, copy, rank);
    }
  });

  it("of the golden data", async (context) => {
    const golden = new URL("../../../../shared/golden/", import.meta.url);
    if (!existsSync(golden)) return context.skip("no ../shared/golden beside the clone");
    for (const [name, hash] of [
      ["sd1-tiny", "c6baf9036a9b6602c1c8e2d73c22ee08e11bca686998463ed96a8e34c845bf55"],
      ["sd2-tiny", "e20fed59e5d986657e9f6887858ff658647bcc3caa84c153cd7ac8b41fc5b9ff"],
    ] as const) {
      await using parent = await openAdapter(new URL(`${name}/lora.safetensors`, golden).pathname);
      const plan = planExtract(
        parent,
        { ranks: [1, 3, parent.maxRank] },
        { outDir, stem: name, alphaRule: "paper" },
      );
      const report = await extract(plan);
      expect(report.parent.dataSha256).toBe(hash);
      expect(report.outputs[2]!.dataSha256).toBe(hash);
      for (const { rank, path } of report.outputs) {
        await using copy = await openAdapter(path);
        await expectPrefix(parent, copy, rank);
      }
    }
  });
});

describe("alpha", () => {
  it.each(ALPHA_RULES)("by the rule %s, for each module with its own rank", async (alphaRule) => {
    await writeRandomAdapter(parentPath, { modules: everyKindOfModule(8, 4), metadata: PAPER });
    const { outputs } = await run({ all: true }, { alphaRule });
    await using parent = await openAdapter(parentPath);
    const ranks = new Map(parent.modules.map((module) => [module.name, module.rank]));
    for (const { path } of outputs) {
      await using copy = await openAdapter(path);
      expect(copy.dylora).toMatchObject({
        unit: 2,
        alphaRule: alphaRule === "lycoris" ? "paper" : alphaRule,
      });
      for (const { name, rank, alpha } of copy.modules) {
        const exact = extractedAlpha(alphaRule, { alpha: 4, rank: ranks.get(name)!, unit: 2 }, rank);
        expect(alpha).toBe(Math.fround(exact));
      }
    }
  });

  it("is written where the parent has none, and means the parent's rank", async () => {
    await writeRandomAdapter(parentPath, { alpha: null });
    const { outputs } = await run({ ranks: [2] });
    await using copy = await openAdapter(outputs[0]!.path);
    expect(
      copy.modules.every(({ rank, alpha, alphaTensor }) => rank === 2 && alpha === 8 && alphaTensor !== null),
    ).toBe(true);
  });

  it("does not change the order of what is written beside it", async () => {
    // alpha · sqrt(b / R) is exact in float16 at rank 2 and 8 and float32 at 4 and 6: it moves to the front of the file.
    await writeRandomAdapter(parentPath, { metadata: DYLORA });
    const { outputs } = await run({ ranks: [2, 4, 6, 8] });
    await using parent = await openAdapter(parentPath);
    const dtypes: (string | undefined)[] = [];
    for (const { rank, path } of outputs) {
      await using copy = await openAdapter(path);
      await expectPrefix(parent, copy, rank);
      dtypes.push(copy.modules[0]!.alphaTensor?.dtype);
    }
    expect(dtypes).toEqual(["F16", "F32", "F32", "F16"]);
  });
});

describe("the report says what was assumed", () => {
  it.each([
    [
      "no metadata",
      null,
      "assumed",
      "paper",
      "The file has no metadata: unit 1 and the paper's alpha rule (alpha stays) are assumed.",
    ],
    [
      "no DyLoRA",
      { ss_network_module: "networks.lora" },
      "assumed",
      "paper",
      "does not say that it is a DyLoRA",
    ],
    [
      "sd-scripts",
      DYLORA,
      "trainer",
      "sd-scripts",
      "was trained with networks.dylora: its alpha rule, sd-scripts, is used",
    ],
    ["ours", PAPER, "metadata", "paper", null],
    [
      "odd metadata",
      { ...DYLORA, ss_network_args: '{"unit": "3", "alpha_rule": "keep"}' },
      "metadata",
      "keep",
      "Metadata: the largest rank, 8, is no multiple of unit 3.",
    ],
    [
      "other ranks",
      { ...DYLORA, ss_network_args: '{"unit": "2", "alpha_rule": "paper", "ranks": "2,4"}' },
      "metadata",
      "paper",
      "Not among the ranks that were trained (2, 4): 8.",
    ],
  ] as const)("%s", async (_, metadata, alphaRuleSource, alphaRule, note) => {
    await writeRandomAdapter(parentPath, { metadata });
    const report = await run({ ranks: [8] });
    expect(report).toMatchObject({
      alphaRule,
      alphaRuleSource,
      parent: { path: parentPath, maxRank: 8, hashMatches: null },
    });
    expect(report.notes).toEqual(note === null ? [] : [expect.stringContaining(note)]);
  });

  it("an alpha rule that was given", async () => {
    await writeRandomAdapter(parentPath);
    expect(await run({ ranks: [4] }, { alphaRule: "keep" })).toMatchObject({
      alphaRule: "keep",
      alphaRuleSource: "option",
      notes: ["The file has no metadata: unit 1 is assumed."],
    });
  });

  it("convolutions that are copied whole", async () => {
    await writeRandomAdapter(parentPath, { modules: everyKindOfModule(8, 4) });
    const { outputs } = await run({ ranks: [4, 6] });
    expect(outputs.map(({ wholeModules }) => wholeModules)).toEqual([0, 2]);
  });

  it("a hash in the parent that is wrong", async () => {
    await writeRandomAdapter(parentPath, { metadata: { ...PAPER, sshs_model_hash: "f".repeat(64) } });
    const { parent, notes } = await run({ ranks: [4] });
    expect(parent.hashMatches).toBe(false);
    expect(notes).toEqual([expect.stringContaining("sshs_model_hash is not the hash of its data")]);
  });

  it("the parent, in the copies", async () => {
    await writeRandomAdapter(parentPath, { metadata: { ...PAPER, ss_output_name: "cat" }, hashes: true });
    const { parent, outputs } = await run({ ranks: [4] });
    await using copy = await openAdapter(outputs[0]!.path);
    expect(copy.metadata).toMatchObject({
      ss_output_name: "cat-r4",
      dylora_parent_hash: parent.dataSha256,
      dylora_parent_rank: "8",
      dylora_alpha_rule: "paper",
    });
    expect(parent.dataSha256).toMatch(/^[0-9a-f]{64}$/);
  });
});

describe("refused, and nothing written", () => {
  it("a rank that the file does not have", async () => {
    await writeRandomAdapter(parentPath, { metadata: PAPER });
    await expect(run({ ranks: [3] })).rejects.toMatchObject({ code: "E_RANK" });
    await expect(run({ ranks: [10] })).rejects.toMatchObject({ code: "E_RANK" });
    expect(existsSync(outDir)).toBe(false);
  });

  it("an unknown alpha rule, unless one is given", async () => {
    await writeRandomAdapter(parentPath, {
      metadata: { ...DYLORA, ss_network_args: '{"alpha_rule": "mine"}' },
    });
    await expect(run({ ranks: [4] })).rejects.toMatchObject({
      code: "E_INCOMPATIBLE",
      message: expect.stringContaining('unknown alpha_rule "mine"'),
      note: expect.stringContaining("--alpha-rule"),
    });
    expect((await run({ ranks: [4] }, { alphaRule: "paper" })).alphaRule).toBe("paper");
  });

  it("one existing copy of several", async () => {
    await writeRandomAdapter(parentPath);
    mkdirSync(outDir);
    writeFileSync(join(outDir, "cat-r4.safetensors"), "mine");
    await expect(run({ ranks: [2, 4] })).rejects.toMatchObject({ code: "E_EXISTS" });
    expect(readdirSync(outDir)).toEqual(["cat-r4.safetensors"]);
    expect(readFileSync(join(outDir, "cat-r4.safetensors"), "utf8")).toBe("mine");
    await run({ ranks: [2, 4] }, { overwrite: true });
    await using copy = await openAdapter(join(outDir, "cat-r4.safetensors"));
    expect(copy.maxRank).toBe(4);
  });

  it("a copy in place of its parent, even through a link", async () => {
    await writeRandomAdapter(parentPath);
    mkdirSync(outDir);
    symlinkSync(parentPath, join(outDir, "cat-r4.safetensors"));
    const before = readFileSync(parentPath);
    await expect(run({ ranks: [4] }, { overwrite: true })).rejects.toMatchObject({
      code: "E_EXISTS",
      message: expect.stringContaining("would replace the file it is taken from"),
    });
    expect(readFileSync(parentPath)).toEqual(before);
  });

  it("a stop in the middle", async () => {
    await writeRandomAdapter(parentPath);
    const controller = new AbortController();
    await expect(
      run({ all: true }, { signal: controller.signal, onProgress: () => controller.abort() }),
    ).rejects.toMatchObject({ code: "E_INTERRUPTED" });
    expect(readdirSync(outDir)).toEqual([]);
  });

  it("a folder that cannot be made", async () => {
    await writeRandomAdapter(parentPath);
    await expect(run({ ranks: [4] }, { outDir: join(parentPath, "sub") })).rejects.toMatchObject({
      code: "E_WRITE",
      note: expect.stringContaining("Nothing was written"),
    });
  });

  it("a disk with too little space", async (context) => {
    const disk = mountTinyDisk(64);
    if (disk === null) return context.skip("this user may not mount a tmpfs");
    try {
      await writeRandomAdapter(parentPath, { dtype: "F64" });
      await expect(run({ all: true }, { outDir: disk.path })).rejects.toMatchObject({
        code: "E_WRITE",
        message: expect.stringMatching(/the copies take \d+ bytes, and the disk has \d+ free/),
      });
      expect(readdirSync(disk.path)).toEqual([]);
    } finally {
      disk.remove();
    }
  });
});

describe("ranks of components", () => {
  const rankOf = ({ component }: { component: string }, unet: number, te: number) =>
    component === "unet" ? unet : te;

  it.each([
    [null, { unet: 6, te: 2 }, [[6, 2]]],
    [null, { unet: 4 }, [[4, 8]]],
    [
      { ranks: [2, 8] },
      { te: 4 },
      [
        [2, 4],
        [8, 4],
      ],
    ],
    [
      { unit: 4 },
      { unet: 2 },
      [
        [2, 4],
        [2, 8],
      ],
    ],
  ] as const)("%j with %j", async (selection, componentRanks, expected) => {
    await writeRandomAdapter(parentPath, { metadata: DYLORA });
    const { outputs } = await run(selection, { componentRanks });
    await using parent = await openAdapter(parentPath);
    expect(outputs.length).toBe(expected.length);
    for (const [i, [unet, te]] of expected.entries()) {
      const { path, rank, componentRanks: ranks, sizeBytes, dataSha256 } = outputs[i]!;
      expect({ path, rank, ranks }).toEqual({
        path: join(outDir, `cat-unet${unet}-te${te}.safetensors`),
        rank: Math.max(unet, te),
        ranks: { unet, te },
      });
      await using copy = await openAdapter(path);
      expect(copy.file.sizeBytes).toBe(sizeBytes);
      expect(await computeModelHash(copy.file)).toBe(dataSha256);
      await expectPrefix(parent, copy, (module) => rankOf(module, unet, te));
      for (const module of copy.modules) {
        const own = rankOf(module, unet, te);
        const alpha = extractedAlpha("sd-scripts", { alpha: 4, rank: 8, unit: 1 }, own);
        expect(module.alpha).toBe(Math.fround(alpha));
      }
      expect(copy.metadata.ss_network_dim).toBe(String(Math.max(unet, te)));
      expect(JSON.parse(copy.metadata.ss_network_args!)).toMatchObject({
        unet_dim: String(unet),
        te_dim: String(te),
      });
    }
  });

  it("of a file whose text encoder has a lower rank", async () => {
    const modules = everyKindOfModule(8).map((module) =>
      module.name.startsWith("lora_te_") ? { ...module, rank: 4 } : module,
    );
    await writeRandomAdapter(parentPath, { modules });
    const { outputs } = await run(null, { componentRanks: { unet: 2 } });
    expect(outputs).toMatchObject([{ rank: 4, componentRanks: { unet: 2, te: 4 }, wholeModules: 0 }]);
    // A selection ends at the largest rank of what it is for.
    const { outputs: all } = await run({ all: true }, { componentRanks: { unet: 8 } });
    expect(all.map(({ componentRanks }) => componentRanks)).toEqual(
      [1, 2, 3, 4].map((te) => ({ unet: 8, te })),
    );
    await expect(run(null, { componentRanks: { te: 8 } })).rejects.toMatchObject({
      code: "E_RANK",
      message: expect.stringContaining("text encoder: rank 8 is above the largest rank, 4"),
    });
  });

  it("refused: a component that is not there, a rank between the file's, a selection for nothing", async () => {
    await writeRandomAdapter(parentPath, { metadata: PAPER });
    await expect(run(null, { componentRanks: { unet: 3 } })).rejects.toMatchObject({ code: "E_RANK" });
    await expect(run({ ranks: [2] }, { componentRanks: { unet: 4, te: 2 } })).rejects.toMatchObject({
      code: "E_USAGE",
      note: expect.stringContaining("Leave out --ranks"),
    });
    const modules = everyKindOfModule(8).filter(({ name }) => name.startsWith("lora_unet_"));
    await writeRandomAdapter(parentPath, { modules });
    await expect(run(null, { componentRanks: { unet: 4, te: 2 } })).rejects.toMatchObject({
      code: "E_INCOMPATIBLE",
      message: expect.stringContaining("it has no modules of the text encoder"),
    });
    expect(existsSync(outDir)).toBe(false);
    const { outputs } = await run(null, { componentRanks: { unet: 4 } });
    expect(outputs[0]!.path).toBe(join(outDir, "cat-unet4.safetensors"));
  });
});

describe("another type", () => {
  it.each([
    ["F32", "F16"],
    ["F32", "BF16"],
    ["F64", "F32"],
    ["F16", "F32"],
    ["BF16", "F16"],
    ["F8_E4M3", "BF16"],
  ] as const)("%s to %s: each number rounded to the nearest", async (from, to) => {
    await writeRandomAdapter(parentPath, { dtype: from, modules: everyKindOfModule(8, 3) });
    const { outputs, dtype } = await run({ ranks: [3, 8] }, { dtype: to });
    expect(dtype).toBe(to);
    const converted = new Map<string, Float32Array>();
    await using parent = await openAdapter(parentPath);
    for (const { down, up } of parent.modules) {
      for (const { name } of [down, up]) {
        const bytes = encodeFromFloat32(await parent.file.readFloat32(name), to);
        converted.set(name, decodeToFloat32(bytes, to));
      }
    }
    for (const { rank, path, sizeBytes, dataSha256 } of outputs) {
      await using copy = await openAdapter(path);
      expect(copy.file.sizeBytes).toBe(sizeBytes);
      expect(await computeModelHash(copy.file)).toBe(dataSha256);
      for (const [i, module] of copy.modules.entries()) {
        const whole = parent.modules[i]!;
        const own = Math.min(rank, whole.rank);
        expect(module).toMatchObject({ name: whole.name, rank: own, alpha: 4 });
        expect([module.down.dtype, module.up.dtype, module.alphaTensor?.dtype]).toEqual([to, to, to]);
        const down = converted.get(whole.down.name)!;
        const expectedDown = down.subarray(0, (down.length / whole.rank) * own);
        expect(await copy.file.readFloat32(module.down.name)).toEqual(expectedDown);
        const up = converted.get(whole.up.name)!;
        const expectedUp = up.filter((_, index) => index % whole.rank < own);
        expect(await copy.file.readFloat32(module.up.name)).toEqual(expectedUp);
      }
    }
  });

  it("the same type is a copy, byte for byte", async () => {
    await writeRandomAdapter(parentPath, { dtype: "BF16" });
    const plain = await run({ ranks: [4] });
    const typed = await run({ ranks: [4] }, { dtype: "BF16", overwrite: true });
    expect(typed.outputs[0]!.dataSha256).toBe(plain.outputs[0]!.dataSha256);
  });

  it("tensors larger than a chunk, in a wider type", async () => {
    const tall = {
      name: "lora_unet_tall",
      kind: "linear",
      rank: 3,
      inFeatures: 3,
      outFeatures: 900_001,
    } as const;
    await writeRandomAdapter(parentPath, { modules: [tall], dtype: "F16" });
    const { outputs } = await run({ ranks: [2] }, { dtype: "F32" });
    await using parent = await openAdapter(parentPath);
    await using copy = await openAdapter(outputs[0]!.path);
    const whole = await parent.file.readFloat32("lora_unet_tall.lora_up.weight");
    const up = await copy.file.readFloat32("lora_unet_tall.lora_up.weight");
    const expected = whole.filter((_, index) => index % 3 < 2);
    expect(Buffer.compare(Buffer.from(up.buffer), Buffer.from(expected.buffer))).toBe(0);
  });

  it("refuses a number that it cannot hold, where a copy needs it", async () => {
    const up = { name: "lora_unet_x.lora_up.weight", dtype: "F32", shape: [2, 2] } as const;
    const down = { name: "lora_unet_x.lora_down.weight", dtype: "F32", shape: [2, 2] } as const;
    const write = (values: number[]) =>
      writeSafetensors(
        parentPath,
        [
          { ...down, data: () => encodeFromFloat32(Float32Array.of(1, 2, 3, 4), "F32") },
          { ...up, data: () => encodeFromFloat32(Float32Array.from(values), "F32") },
        ],
        { overwrite: true },
      );
    await write([1, 70_000, 1, 1]);
    await expect(run({ ranks: [1, 2] }, { dtype: "F16" })).rejects.toMatchObject({
      code: "E_INCOMPATIBLE",
      message: expect.stringContaining("lora_unet_x.lora_up.weight: the value 70000 is too large for F16"),
      note: expect.stringContaining("--dtype BF16 or F32"),
    });
    expect(readdirSync(outDir)).toEqual([]);
    // Column 2 is not in rank 1; 65519 still rounds to 65504; what is infinite already does not overflow.
    await run({ ranks: [1] }, { dtype: "F16" });
    await write([65_519, Number.NEGATIVE_INFINITY, -65_519, Number.NaN]);
    const { outputs } = await run({ ranks: [2] }, { dtype: "F16" });
    await using copy = await openAdapter(outputs[0]!.path);
    expect([...(await copy.file.readFloat32(up.name))]).toEqual([65504, -Infinity, -65504, Number.NaN]);
  });
});

describe("names", () => {
  it.each([
    ["{stem}_{rank}", ["cat_2", "cat_8"]],
    ["r{rank}.safetensors", ["r2", "r8"]],
    [
      "{stem} (alpha {alpha}, rank {rank}, te {te})",
      ["cat (alpha 4, rank 2, te 2)", "cat (alpha 4, rank 8, te 8)"],
    ],
  ])("%s", async (name, expected) => {
    await writeRandomAdapter(parentPath, { metadata: { ...PAPER, ss_output_name: "cat" } });
    const { outputs } = await run({ ranks: [2, 8] }, { name });
    expect(outputs.map(({ path }) => path)).toEqual(
      expected.map((title) => join(outDir, `${title}.safetensors`)),
    );
    await using copy = await openAdapter(outputs[0]!.path);
    expect(copy.metadata.ss_output_name).toBe(expected[0]);
  });

  it.each([
    ["one name for two ranks", "{stem}", {}, "more than one of the 2 files would be called cat"],
    ["the same alpha", "{alpha}", {}, "more than one of the 2 files would be called 4"],
    ["another folder", "../{rank}", {}, "which is no file name"],
    ["a folder within", "a/{rank}", {}, "which is no file name"],
    ["no name", "", {}, "which is no file name"],
    ["an unknown placeholder", "{dim}", {}, "has an unknown {dim}"],
    ["a property of every object", "{constructor}", {}, "has an unknown {constructor}"],
    [
      "several alphas",
      "{alpha}-{rank}",
      { alphaRule: "sd-scripts" },
      "the modules of rank 6 have different alphas",
    ],
  ] as const)("refused: %s", async (_, name, options, message) => {
    await writeRandomAdapter(parentPath, { modules: everyKindOfModule(8, 4), metadata: PAPER });
    await expect(run({ ranks: [6, 8] }, { name, ...options })).rejects.toMatchObject({
      code: "E_USAGE",
      message: expect.stringContaining(message),
      note: expect.stringContaining("Nothing was written"),
    });
    expect(existsSync(outDir)).toBe(false);
  });
});

it("leaves the hashes out on request", async () => {
  await writeRandomAdapter(parentPath, { metadata: PAPER, hashes: true });
  await using parent = await openAdapter(parentPath);
  const plan = planExtract(parent, { ranks: [4] }, { outDir, hashes: false });
  const report = await extract(plan);
  expect(report.parent).not.toHaveProperty("dataSha256");
  expect(report.parent.hashMatches).toBe(null);
  expect(report.outputs).toEqual([
    { rank: 4, path: plan.outputs[0]!.path, sizeBytes: plan.outputs[0]!.sizeBytes, wholeModules: 0 },
  ]);
  await using copy = await openAdapter(report.outputs[0]!.path);
  await expectPrefix(parent, copy, 4);
  expect(Object.keys(copy.metadata).filter((key) => key.includes("hash"))).toEqual([]);
  expect(copy.metadata).toMatchObject({ dylora_parent_rank: "8", ss_network_dim: "4" });
});

it("plans without writing: sizes are those of the files", async () => {
  await writeRandomAdapter(parentPath, { metadata: PAPER });
  await using parent = await openAdapter(parentPath);
  const plan = planExtract(parent, { all: true }, { outDir });
  expect(existsSync(outDir)).toBe(false);
  const { outputs } = await extract(plan);
  expect(plan.outputs.map(({ rank, path, sizeBytes }) => ({ rank, path, sizeBytes }))).toEqual(
    outputs.map(({ rank, path, sizeBytes }) => ({ rank, path, sizeBytes })),
  );
});

it("reports progress up to the whole of the parent", async () => {
  await writeRandomAdapter(parentPath);
  const seen: { doneBytes: number; totalBytes: number }[] = [];
  await run({ ranks: [2] }, { onProgress: (progress) => seen.push(progress) });
  expect(seen.length).toBe(16);
  expect(seen.at(-1)!.doneBytes).toBe(seen.at(-1)!.totalBytes);
});
