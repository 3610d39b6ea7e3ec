import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { everyKindOfModule, writeRandomAdapter } from "../../../test/helpers/random-adapter.js";
import { openAdapter, readFactors } from "../../adapter/index.js";
import { writeSafetensors } from "../../safetensors/index.js";
import { inspectAdapter } from "./inspect.js";

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "dylora-inspect-"));
  path = join(folder, "lora.safetensors");
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** ‖up[:, :b] · down[:b]‖², by forming the product. */
function energyOfProduct(down: Float32Array, upT: Float32Array, rank: number, b: number): number {
  const inputs = down.length / rank;
  const outputs = upT.length / rank;
  let sum = 0;
  for (let o = 0; o < outputs; o++) {
    for (let i = 0; i < inputs; i++) {
      let element = 0;
      for (let r = 0; r < b; r++) element += upT[r * outputs + o]! * down[r * inputs + i]!;
      sum += element ** 2;
    }
  }
  return sum;
}

describe("inspectAdapter", () => {
  const METADATA = {
    ss_network_module: "networks.dylora",
    ss_network_args: '{"unit": "3", "alpha_rule": "paper"}',
    ss_base_model_version: "sd_v1",
  };

  it("from the header alone", async () => {
    await writeRandomAdapter(path, { modules: everyKindOfModule(8, 4), metadata: METADATA, hashes: true });
    const report = await inspectAdapter(path);
    expect(report).toMatchObject({
      path,
      dialect: "kohya",
      baseModel: { stated: "sd_v1", fromMetadata: "sd1", fromShapes: "sd1", predictionType: "epsilon" },
      dylora: {
        isDylora: true,
        unit: 3,
        maxRank: 8,
        problems: ["the largest rank, 8, is no multiple of unit 3"],
      },
      dtypes: { F16: 24 },
      foreignModules: [],
      unknownTensors: [],
      hash: { stated: expect.stringMatching(/^[0-9a-f]{64}$/), computed: null, matches: null },
      energy: null,
    });
    const range = (value: number) => ({ min: value, max: value });
    const group = (component: string, kind: string, modules: number, rank: number, parameters: number) => ({
      component,
      kind,
      modules,
      ranks: range(rank),
      alphas: range(4),
      parameters,
    });
    const key = (entry: { component: string; kind: string; ranks: { min: number } }) =>
      `${entry.component} ${entry.kind}`;
    expect([...report.groups].sort((a, b) => (key(a) < key(b) ? -1 : 1))).toEqual([
      group("text_encoder", "linear", 2, 8, 8 * (40 + 100)),
      { ...group("unet", "conv1x1", 2, 8, 8 * 56 + 4 * 40), ranks: { min: 4, max: 8 } },
      group("unet", "conv3x3", 1, 4, 4 * (144 + 24)),
      group("unet", "linear", 3, 8, 8 * (56 + 48 + 792)),
    ]);
    expect(report.parameters).toBe(report.groups.reduce((sum, { parameters }) => sum + parameters, 0));
    expect(report.modules.length).toBe(8);
    expect(report.tensors.length).toBe(24);
    expect(report.modules.every(({ norm }) => norm === null)).toBe(true);
    expect(JSON.parse(JSON.stringify(report))).toEqual(report);
  });

  it("norms and the energy of every rank", async () => {
    await writeRandomAdapter(path, { modules: everyKindOfModule(8, 4), metadata: METADATA, alpha: 6 });
    const done: number[] = [];
    const report = await inspectAdapter(path, {
      norms: true,
      onProgress: ({ doneModules }) => done.push(doneModules),
    });
    await using adapter = await openAdapter(path);
    expect(done).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    const energies: number[][] = [];
    for (const [i, module] of adapter.modules.entries()) {
      const { down, upT } = await readFactors(adapter.file, module);
      const scale = 6 / module.rank;
      const at = (b: number) =>
        energyOfProduct(down, upT, module.rank, Math.min(b, module.rank)) * scale ** 2;
      energies.push([3, 6, 8].map(at));
      expect(report.modules[i]!.norm).toBeCloseTo(Math.sqrt(at(8)), 10);
    }
    const total = (column: number) => energies.reduce((sum, row) => sum + row[column]!, 0);
    expect(report.energy!.map(({ component }) => component)).toEqual(["all", "text_encoder", "unet"]);
    const { prefixes } = report.energy![0]!;
    expect(prefixes.map(({ rank }) => rank)).toEqual([3, 6, 8]);
    for (const [i, { share }] of prefixes.entries()) expect(share).toBeCloseTo(total(i) / total(2), 10);
    expect(prefixes.at(-1)!.share).toBe(1);
  });

  it("gives no energy of ranks for what is no DyLoRA", async () => {
    await writeRandomAdapter(path);
    const report = await inspectAdapter(path, { norms: true });
    expect(report.energy).toBe(null);
    expect(report.modules.every(({ norm }) => norm! > 0)).toBe(true);
  });

  it("checks the hash on request", async () => {
    const { dataSha256 } = await writeRandomAdapter(path, { hashes: true });
    expect((await inspectAdapter(path, { verifyHash: true })).hash).toEqual({
      stated: dataSha256,
      computed: dataSha256,
      matches: true,
    });
    await writeRandomAdapter(path, { metadata: { sshs_model_hash: "other" } });
    expect((await inspectAdapter(path, { verifyHash: true })).hash).toEqual({
      stated: "other",
      computed: dataSha256,
      matches: false,
    });
  });

  it("lists LyCORIS modules and unknown tensors", async () => {
    const names = ["lora_unet_a.hada_w1_a", "lora_unet_a.hada_w1_b", "lora_unet_a.alpha", "strange"];
    const data = () => new Uint8Array(2);
    await writeSafetensors(
      path,
      names.map((name) => ({ name, dtype: "F16", shape: [1], data }) as const),
    );
    expect(await inspectAdapter(path)).toMatchObject({
      modules: [],
      groups: [],
      foreignModules: [{ name: "lora_unet_a", component: "unet", methods: ["loha"] }],
      unknownTensors: ["strange"],
      dylora: { maxRank: 0 },
    });
  });

  it("the golden data", async (context) => {
    const golden = new URL("../../../../shared/golden/sd1-tiny/lora.safetensors", import.meta.url);
    if (!existsSync(golden)) return context.skip("no ../shared/golden beside the clone");
    const report = await inspectAdapter(golden.pathname, { norms: true, verifyHash: true });
    expect(report.hash.computed).toBe("c6baf9036a9b6602c1c8e2d73c22ee08e11bca686998463ed96a8e34c845bf55");
    expect(report.energy![0]!.prefixes.length).toBe(8);
  });
});
