import path from "node:path";
import { describe, expect, test } from "vitest";
import { memoryTerminal } from "../../test/helpers/memory-terminal.js";
import { everyKindOfModule, writeRandomAdapter } from "../../test/helpers/random-adapter.js";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import { type AdapterReport, inspectAdapter } from "../surgery/index.js";
import { inspectText } from "./inspect-output.js";

const sections = { modules: false, tensors: false, metadata: false };

async function report(
  options: Parameters<typeof writeRandomAdapter>[1],
  norms = false,
): Promise<AdapterReport> {
  const file = path.join(await tempFolder(), "cat.safetensors");
  await writeRandomAdapter(file, options);
  return { ...(await inspectAdapter(file, { norms })), path: path.resolve("cat.safetensors") };
}

const dylora = {
  ss_network_module: "networks.dylora",
  ss_network_args: '{"unit": "4", "alpha_rule": "paper", "update_mode": "frozen"}',
  ss_base_model_version: "sd_v1",
};
const shown = (facts: AdapterReport, more: Partial<typeof sections> = {}) =>
  inspectText(facts, { ...sections, ...more }, memoryTerminal({ columns: 100 }).stdout);

describe("inspectText", () => {
  test("a DyLoRA, header only", async () => {
    expect(
      shown(await report({ modules: everyKindOfModule(8, 4), metadata: dylora })),
    ).toMatchInlineSnapshot(`
      "cat.safetensors
        file        22.3 kB, header 3.2 kB, 24 tensors: 24 F16
        names       kohya (sd-scripts)
        base model  Stable Diffusion 1.x, epsilon prediction (metadata: sd_v1)
        parameters  9,568
        kind        DyLoRA, maximum rank 8, unit 4, update mode frozen
        alpha rule  paper: alpha stays the same at every rank (from the metadata)
        hash        none in the metadata
        metadata    3 entries (--metadata shows them)

      Modules
      component     kind      modules    rank  alpha  parameters
      text encoder  linear          2       8      4       1,120
      U-Net         conv 1x1        2  4 to 8      4         608
      U-Net         linear          3       8      4       7,168
      U-Net         conv 3x3        1       4      4         672
      --norms computes how much each adds.

      "
    `);
  });

  test("with norms: how much each kind and each rank adds", async () => {
    const text = shown(await report({ modules: everyKindOfModule(8), metadata: dylora }, true));
    expect(text).toMatch(/component +kind +modules +rank +alpha +parameters +norm\n/);
    expect(text).toMatch(/\n +4 +\d+\.\d % +\d+\.\d % +\d+\.\d %\n +8 +100\.0 % +100\.0 % +100\.0 %\n/);
    expect(text).not.toContain("--norms");
  });

  test("an ordinary LoRA without metadata", async () => {
    const text = shown(await report({ modules: everyKindOfModule(8), metadata: null }));
    expect(text).toContain("kind        LoRA, rank 8\n");
    expect(text).toContain("hash        none in the metadata\n");
    expect(text).toContain("metadata    none\n");
    expect(text).not.toContain("alpha rule");
  });

  test("modules, tensors and metadata by name, where they are asked for", async () => {
    const facts = await report({ modules: everyKindOfModule(8), metadata: dylora });
    const text = shown(facts, { modules: true, tensors: true, metadata: true });
    for (const { name } of facts.modules) expect(text).toMatch(new RegExp(`^${name} `, "m"));
    for (const { name } of facts.tensors) expect(text).toMatch(new RegExp(`^${name} `, "m"));
    expect(text).toContain(
      'ss_network_args        {"unit": "4", "alpha_rule": "paper", "update_mode": "frozen"}\n',
    );
  });

  test("metadata that would command a terminal is shown, not obeyed", async () => {
    const text = shown(await report({ metadata: { "ss_\u001b[2J": "a\nb" } }), { metadata: true });
    expect(text).toContain("ss_\\u001b[2J  a\\nb\n");
    expect(text).not.toContain("\u001b");
  });

  test("what is wrong with a file is said", async () => {
    const facts = await report({ metadata: { ...dylora, ss_network_args: '{"unit": "3"}' } });
    const broken: AdapterReport = {
      ...facts,
      baseModel: { stated: "sd_v1", fromMetadata: "sd1", fromShapes: "sd2", predictionType: "epsilon" },
      foreignModules: [{ name: "lora_unet_x", component: "unet", methods: ["loha"] }],
      unknownTensors: ["what"],
      modules: facts.modules.map((module, index) => ({ ...module, norm: index === 0 ? 0 : Number.NaN })),
      hash: { stated: "aaaa", computed: "bbbb", matches: false },
    };
    const notes = shown(broken)
      .split("\n")
      .filter((line) => line.startsWith("note: "));
    expect(notes).toEqual([
      "note: metadata: the largest rank, 8, is no multiple of unit 3.",
      "note: The metadata says Stable Diffusion 1.x, the shapes are those of Stable Diffusion 2.x.",
      "note: Modules that are no plain LoRA: 1 (LoHa). dylora cannot work on them.",
      "note: Tensors with unknown names: 1 (what).",
      `note: Modules with numbers that are not finite: ${facts.modules.length - 1}. The training diverged.`,
      `note: Modules that add nothing (norm 0): 1 of ${facts.modules.length}.`,
      "note: The data were changed after the hash was stored.",
    ]);
  });
});
