import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import {
  PLANTED_RANK,
  PLANTED_UNIT,
  type PlantedModule,
  writePlantedAdapter,
} from "../../../test/helpers/planted-adapter.js";
import { everyKindOfModule, writeRandomAdapter } from "../../../test/helpers/random-adapter.js";
import { tempFolder } from "../../../test/helpers/temp-folder.js";
import { type Adapter, ALPHA_RULES, openAdapter, readFactors } from "../../adapter/index.js";
import { convert } from "../convert/convert.js";
import { planConvert } from "../convert/plan.js";
import { extractedAlpha } from "./alpha-rule.js";
import { type ExtractReport, extract } from "./extract.js";
import { type Budget, type BudgetOptions, planBudgetExtract } from "./plan-budget.js";

let folder: string;
const at = (name: string) => join(folder, name);
beforeEach(async () => {
  folder = await tempFolder();
});

async function run(budget: Budget, options: BudgetOptions = {}, name = "cat.safetensors") {
  await using parent = await openAdapter(at(name));
  const plan = await planBudgetExtract(parent, budget, { outDir: at("out"), ...options });
  const report: ExtractReport = await extract(plan, { overwrite: true });
  const [output] = report.outputs;
  return { plan, report, output: output!, mixed: output!.mixed!, parentBytes: parent.file.sizeBytes };
}

/** Compared as buffers: expect() looks at every number of an array by itself. */
function expectPrefix(part: Float32Array, whole: Float32Array): void {
  const bytes = ({ buffer, byteOffset, byteLength }: Float32Array) =>
    Buffer.from(buffer, byteOffset, byteLength);
  expect(Buffer.compare(bytes(part), bytes(whole.subarray(0, part.length)))).toBe(0);
}

const blocks = (used: readonly number[], width = 160): PlantedModule[] =>
  used.map((count, i) => ({
    name: `lora_unet_down_blocks_${Math.floor(i / 3)}_attentions_${i % 3}_proj_in`,
    inFeatures: width,
    outFeatures: width,
    used: count,
  }));

describe("planted ranks", () => {
  const USED = [4, 16, 8, 4, 12, 16, 8, 0, 4];

  test.each(ALPHA_RULES)("are found, whatever the strength of lower ranks: %s", async (alphaRule) => {
    await writePlantedAdapter(at("cat.safetensors"), blocks(USED), { alphaRule });
    const { mixed, output, parentBytes, report } = await run({ share: 0.95 });
    expect(mixed.modules.map(({ rank }) => rank)).toEqual(USED);
    expect(mixed.kept).toBeCloseTo(1, 12);
    // Nothing that is left is worth anything: the space is not used up.
    expect(output.sizeBytes).toBeLessThan(0.6 * parentBytes);
    expect(report.notes.join()).toMatch(/below its budget: no component that is left does anything/);
    expect(report.notes.join()).toMatch(/Left out of the copy: 1 of 9 modules/);
  });

  test("with just enough space for them", async () => {
    await writePlantedAdapter(at("cat.safetensors"), blocks(USED));
    const { output } = await run({ share: 0.95 });
    const exact = await run({ bytes: output.sizeBytes + 64 });
    expect(exact.mixed.modules.map(({ rank }) => rank)).toEqual(USED);
  });

  test("strong modules are served first", async () => {
    const modules = blocks([16, 16, 16, 16]).map((module, i) => ({ ...module, strength: i < 2 ? 8 : 1 }));
    await writePlantedAdapter(at("cat.safetensors"), modules);
    const { mixed } = await run({ share: 0.66 });
    expect(mixed.modules.map(({ rank }) => rank)).toEqual([16, 16, 4, 4]);
    expect(mixed.uniform).toMatchObject({ rank: 8 });
    expect(mixed.kept).toBeGreaterThan(mixed.uniform!.kept!);
  });

  test("below the lowest rank everywhere, weak modules are left out", async () => {
    const modules = blocks([4, 4, 16, 16]).map((module, i) => ({ ...module, strength: i < 2 ? 4 : 1 }));
    await writePlantedAdapter(at("cat.safetensors"), modules);
    const { mixed } = await run({ share: 0.2 });
    expect(mixed.modules.map(({ rank }) => rank)).toEqual([4, 4, 0, 0]);
    expect(mixed.uniform).toBeNull();
  });
});

describe("the file", () => {
  const MANY = Array.from({ length: 24 }, (_, i) => [16, 12, 8, 4][i % 4]!);

  test.each([0.3, 0.4, 0.55, 0.7])("is within 2 %% of the asked size: %d of the parent's", async (share) => {
    await writePlantedAdapter(at("cat.safetensors"), blocks(MANY.map(() => 16)));
    const { output, parentBytes } = await run({ share });
    expect((await readFile(output.path)).length).toBe(output.sizeBytes);
    expect(output.sizeBytes).toBeLessThanOrEqual(share * parentBytes);
    expect(output.sizeBytes).toBeGreaterThan(0.98 * share * parentBytes);
  });

  test.each(ALPHA_RULES)(
    "is an ordinary LoRA; each module is as trained at its rank: %s",
    async (alphaRule) => {
      await writePlantedAdapter(at("cat.safetensors"), blocks(MANY), { alphaRule });
      const { output, mixed } = await run({ bytes: 120_000 });
      await using parent = await openAdapter(at("cat.safetensors"));
      await using copy = await openAdapter(output.path);
      expect(copy.dylora.isDylora).toBe(false);
      const chosen = new Map(mixed.modules.map(({ name, rank }) => [name, rank]));
      expect(copy.modules.length).toBe([...chosen.values()].filter((rank) => rank > 0).length);
      for (const module of copy.modules) {
        const whole = parent.modules.find(({ name }) => name === module.name)!;
        const { rank } = module;
        expect(rank).toBe(chosen.get(module.name));
        expect(rank % PLANTED_UNIT).toBe(0);
        const alpha = extractedAlpha(alphaRule, { alpha: 4, rank: PLANTED_RANK, unit: PLANTED_UNIT }, rank);
        expect(module.alpha).toBeCloseTo(alpha, 6);
        const own = await readFactors(copy.file, module);
        const full = await readFactors(parent.file, whole);
        expect(own.down).toEqual(full.down.subarray(0, own.down.length));
        expect(own.upT).toEqual(full.upT.subarray(0, own.upT.length));
      }
    },
  );

  test("says what was done", async () => {
    await writePlantedAdapter(at("cat.safetensors"), blocks(MANY));
    const { output, mixed, report } = await run({ bytes: 120_000 });
    expect(output.path).toBe(at("out/cat-120kB.safetensors"));
    await using copy = await openAdapter(output.path);
    const { metadata } = copy;
    expect(metadata).toMatchObject({
      ss_network_module: "networks.lora",
      ss_network_dim: "Dynamic",
      ss_network_alpha: "4.0",
      ss_output_name: "cat-120kB",
      dylora_parent_rank: "16",
      dylora_parent_hash: report.parent.dataSha256,
      sshs_model_hash: output.dataSha256,
    });
    expect(metadata.ss_network_args ?? "{}").not.toMatch(/unit|alpha_rule/);
    const counts: Record<string, number> = {};
    for (const { rank } of mixed.modules) counts[rank] = (counts[rank] ?? 0) + 1;
    expect(JSON.parse(metadata.dylora_operation!)).toEqual({
      name: "extract",
      by: "size",
      targetBytes: 120_000,
      benefit: "energy",
      alphaRule: "paper",
      ranks: counts,
    });
  });

  test("another type, a name, no hashes", async () => {
    await writePlantedAdapter(at("cat.safetensors"), blocks(MANY));
    const { output } = await run(
      { share: 0.5 },
      { dtype: "F32", name: "{stem}_{budget}", hashes: false, stem: "dog" },
    );
    expect(output.path).toBe(at("out/dog_50percent.safetensors"));
    await using copy = await openAdapter(output.path);
    expect(new Set(copy.modules.map(({ down }) => down.dtype))).toEqual(new Set(["F32"]));
    expect(copy.metadata).not.toHaveProperty("sshs_model_hash");
    expect(copy.metadata).not.toHaveProperty("dylora_parent_hash");
  });
});

describe("every dialect and kind of module", () => {
  /** What a loader makes of an adapter, by kohya's names. */
  async function functionOf(adapter: Adapter) {
    const entries = adapter.modules.map(async (module) => {
      const { down, upT } = await readFactors(adapter.file, module);
      return [module.name, { rank: module.rank, alpha: Math.fround(module.alpha), down, upT }] as const;
    });
    return Object.fromEntries(await Promise.all(entries));
  }

  test.each(["diffusers", "peft"] as const)("%s", async (to) => {
    await writeRandomAdapter(at("cat.safetensors"), {
      modules: everyKindOfModule(8, 3),
      metadata: { ss_network_module: "networks.dylora", ss_network_args: '{"unit": "2"}' },
    });
    {
      await using source = await openAdapter(at("cat.safetensors"));
      await convert(await planConvert(source, { to, path: at("other") }));
    }
    const { output } = await run({ share: 0.6 }, {}, "other");
    await using copy = await openAdapter(output.path);
    expect(copy.dialect).toBe(to);
    await using parent = await openAdapter(at("cat.safetensors"));
    const [own, whole] = [await functionOf(copy), await functionOf(parent)];
    expect(new Set(Object.values(own).map(({ rank }) => rank)).size).toBeGreaterThan(1);
    for (const [name, { rank, alpha, down, upT }] of Object.entries(own)) {
      const module = whole[name]!;
      expectPrefix(down, module.down);
      expectPrefix(upT, module.upT);
      expect(alpha).toBeCloseTo(module.alpha * Math.sqrt(rank / module.rank), 5);
    }
  });
});

describe("worth that was measured elsewhere", () => {
  test("decides, and leaves out what is worth nothing", async () => {
    await writePlantedAdapter(at("cat.safetensors"), blocks([16, 16, 16]));
    const values = [
      [0, 0, 0, 0],
      [1, 5, 5.1, 5.2],
      [-1, -1, 0.5, 0.5],
    ].map((row) => Float64Array.from(row));
    const references: (readonly number[])[] = [];
    const { mixed, report } = await run(
      { share: 0.9 },
      {
        measureWorth: async (_, reference) => {
          references.push(reference);
          return { benefit: "calibration", values };
        },
      },
    );
    expect(mixed.modules.map(({ rank, kept }) => [rank, kept])).toEqual([
      [0, null],
      [16, null],
      [12, null],
    ]);
    expect(mixed).toMatchObject({ benefit: "calibration", kept: null, uniform: { rank: 12, kept: null } });
    expect(references).toEqual([[12, 12, 12]]);
    expect(report.notes.join()).toContain("Left out of the copy: 1 of 3 modules");
  });
});

describe("what it refuses", () => {
  beforeEach(() => writePlantedAdapter(at("cat.safetensors"), blocks([16, 16])));

  test.each<[Budget, RegExp]>([
    [{ share: 0 }, /not between 0 and 1/],
    [{ share: 1 }, /not between 0 and 1/],
    [{ bytes: 1.5 }, /no whole number/],
    [{ bytes: 1000 }, /no copy of 1000 bytes is possible: the smallest takes \d+$/],
    [{ bytes: 1_000_000 }, /no smaller than the whole, which takes \d+$/],
  ])("%j", async (budget, message) => {
    await expect(run(budget)).rejects.toMatchObject({
      code: "E_USAGE",
      message: expect.stringMatching(message),
      note: expect.stringContaining("Nothing was written"),
    });
  });

  test("factors that are not finite", async () => {
    await writeRandomAdapter(at("cat.safetensors"), { modules: everyKindOfModule(8) });
    const bytes = await readFile(at("cat.safetensors"));
    bytes.writeUInt16LE(0x7e00, bytes.length - 2);
    await writeFile(at("cat.safetensors"), bytes);
    await expect(run({ share: 0.5 })).rejects.toMatchObject({ code: "E_FORMAT" });
  });

  test("an adapter in which no module does anything", async () => {
    await writePlantedAdapter(at("cat.safetensors"), blocks([0, 0]));
    await expect(run({ share: 0.5 })).rejects.toMatchObject({
      code: "E_USAGE",
      message: expect.stringContaining("is worth anything, by energy"),
    });
  });
});
