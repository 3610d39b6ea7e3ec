import { describe, expect, it } from "vitest";
import { buildAdapterMetadata, readAdapterMetadata } from "./adapter-metadata.js";
import { buildLoraConfig, LoraConfig, sortedJson } from "./lora-config.js";
import { buildPeftConfig, describesModules, updatePeftConfig } from "./peft-config.js";

describe("reading", () => {
  it("takes PEFT's defaults for what is not there", () => {
    const config = new LoraConfig({}, "read x");
    expect([config.rankOf("a.to_q"), config.alphaOf("a.to_q", 8)]).toEqual([8, 8]);
  });

  it("looks ranks and alphas up by pattern", () => {
    const config = new LoraConfig(
      { r: 16, lora_alpha: 4, rank_pattern: { "b.to_q": 2 }, alpha_pattern: { to_q: 0.5, "b.to_k": 3 } },
      "read x",
    );
    expect(
      ["a.to_q", "b.to_q", "b.to_k"].map((path) => [config.rankOf(path), config.alphaOf(path, 1)]),
    ).toEqual([
      [16, 0.5],
      [2, 0.5],
      [16, 3],
    ]);
  });

  it("use_rslora: the strength is lora_alpha / sqrt(r)", () => {
    const config = new LoraConfig({ r: 16, lora_alpha: 4, use_rslora: true }, "read x");
    expect(config.alphaOf("to_q", 16) / 16).toBe(4 / Math.sqrt(16));
    expect(config.alphaOf("to_q", 3) / 3).toBeCloseTo(4 / Math.sqrt(3), 15);
  });

  it.each<[fields: unknown, code: string, message: string]>([
    [[8, 192], "E_FORMAT", "read x: it is no JSON object"],
    [null, "E_FORMAT", "read x: it is no JSON object"],
    [{ r: [8, 192] }, "E_FORMAT", "read x: r is a list instead of a number"],
    [{ lora_alpha: "8" }, "E_FORMAT", 'read x: lora_alpha is "8" instead of a number'],
    [
      { rank_pattern: { to_q: {} } },
      "E_FORMAT",
      "read x: rank_pattern: to_q is an object instead of a number",
    ],
    [{ alpha_pattern: [] }, "E_FORMAT", "read x: alpha_pattern is no object"],
    [{ peft_type: "LOHA" }, "E_INCOMPATIBLE", 'read x: the adapter is no LoRA but "LOHA"'],
  ])("refuses %j", (fields, code, message) => {
    expect(() => new LoraConfig(fields, "read x")).toThrow(expect.objectContaining({ code, message }));
  });
});

const MODULES = [
  { path: "b.to_q", rank: 8, alpha: 4 },
  { path: "a.to_q", rank: 8, alpha: 4 },
  { path: "c.conv1", rank: 2, alpha: 0.5 },
];

describe("writing", () => {
  it("names the commonest values, and the others by whole paths", () => {
    expect(buildLoraConfig(MODULES)).toEqual({
      r: 8,
      lora_alpha: 4,
      rank_pattern: { "c.conv1": 2 },
      alpha_pattern: { "c.conv1": 0.5 },
      target_modules: ["a.to_q", "b.to_q", "c.conv1"],
    });
  });

  it("does not depend on the order of the modules", () => {
    const tie = [
      { path: "x", rank: 4, alpha: 2 },
      { path: "y", rank: 2, alpha: 1 },
    ];
    expect(buildLoraConfig(tie)).toEqual(buildLoraConfig([...tie].reverse()));
    expect(buildLoraConfig(tie)).toMatchObject({ r: 2, lora_alpha: 1, rank_pattern: { x: 4 } });
  });

  it("is read back", () => {
    const text = buildPeftConfig(MODULES);
    expect(describesModules(text, MODULES)).toBe(true);
    expect(JSON.parse(text)).toMatchObject({ peft_type: "LORA", use_rslora: false, bias: "none" });
    expect(describesModules(text, [{ path: "a.to_q", rank: 8, alpha: 5 }])).toBe(false);
    expect(describesModules(text, [{ path: "a.to_q", rank: 4, alpha: 4 }])).toBe(false);
    expect(describesModules("{", MODULES)).toBe(false);
  });

  it("keeps a text that is still true, and corrects one that is not", () => {
    const rank8 = MODULES.slice(0, 2);
    const text = '{"r": 8, "lora_alpha": 4, "peft_type": "LORA", "revision": "main"}';
    expect(updatePeftConfig(text, rank8)).toBe(text);
    const corrected = updatePeftConfig(text, [{ path: "a.to_q", rank: 4, alpha: 4 }]);
    expect(JSON.parse(corrected)).toEqual({
      alpha_pattern: {},
      lora_alpha: 4,
      peft_type: "LORA",
      r: 4,
      rank_pattern: {},
      revision: "main",
      target_modules: ["a.to_q"],
      use_rslora: false,
    });
  });

  it("is JSON as Python writes it", () => {
    expect(sortedJson({ b: [1, 0.5], a: { d: null, c: "ä" } })).toBe(
      '{\n  "a": {\n    "c": "ä",\n    "d": null\n  },\n  "b": [\n    1,\n    0.5\n  ]\n}',
    );
  });
});

describe("lora_adapter_metadata", () => {
  const modules = [
    { component: "unet", path: "a.to_q", rank: 8, alpha: 4 },
    { component: "text_encoder_2", path: "b.q_proj", rank: 4, alpha: 4 },
  ] as const;

  it("has the fields of each component behind its name", () => {
    expect(JSON.parse(buildAdapterMetadata(modules))).toEqual({
      "unet.r": 8,
      "unet.lora_alpha": 4,
      "unet.rank_pattern": {},
      "unet.alpha_pattern": {},
      "unet.target_modules": ["a.to_q"],
      "text_encoder_2.r": 4,
      "text_encoder_2.lora_alpha": 4,
      "text_encoder_2.rank_pattern": {},
      "text_encoder_2.alpha_pattern": {},
      "text_encoder_2.target_modules": ["b.q_proj"],
    });
  });

  it("is read by component; fields without one hold for all", () => {
    const metadata = (value: unknown) => ({ lora_adapter_metadata: JSON.stringify(value) });
    const configs = readAdapterMetadata({ lora_adapter_metadata: buildAdapterMetadata(modules) }, "read x");
    expect([...configs.keys()].sort()).toEqual(["text_encoder_2", "unet"]);
    expect(configs.get("text_encoder_2")?.alphaOf("b.q_proj", 4)).toBe(4);
    expect(
      readAdapterMetadata(metadata({ r: 2, lora_alpha: 1 }), "read x")
        .get(null)
        ?.alphaOf("x", 2),
    ).toBe(1);
    expect(readAdapterMetadata({}, "read x").size).toBe(0);
  });

  it.each(["", "[]", "7", '{"unet.r": true}'])("refuses %j", (text) => {
    expect(() => readAdapterMetadata({ lora_adapter_metadata: text }, "read x")).toThrow(
      expect.objectContaining({ code: "E_FORMAT" }),
    );
  });
});
