import { expect, test } from "vitest";
import { dyloraVersion } from "../version.js";
import type { LoadedAdapter } from "./loaded-adapter.js";
import { modelName, parametersText } from "./parameters-text.js";
import { IMAGE_DEFAULTS } from "./types.js";

const image = { ...IMAGE_DEFAULTS, prompt: "a cat", seed: 42, width: 512, height: 768 } as const;
const model = { name: "sd15", sha256: "0123456789abcdef" };

const adapter = (name: string, hash: string | null): LoadedAdapter => ({
  name,
  path: `/loras/${name}.safetensors`,
  maxRank: 16,
  metadata: hash === null ? {} : { sshs_model_hash: hash },
  targets: [],
  checkRank: () => {},
  activate: () => [],
});

test("the least there is to say", () => {
  const text = parametersText({ request: image, clipSkip: 1 }, { name: "sd15", sha256: null });
  expect(text).toBe(
    `a cat\nSteps: 30, Sampler: DDIM, Schedule type: Uniform, CFG scale: 7.5, Seed: 42, Size: 512x768, Model: sd15, Version: dylora ${dyloraVersion()}`,
  );
});

test("everything", () => {
  const adapters = [
    { adapter: adapter("cat", "f".repeat(64)), rank: 8 },
    { adapter: adapter("style", null), rank: 4, multiplier: 0.7 },
    { adapter: adapter("unused", "e".repeat(64)), rank: 0 },
  ];
  const request = {
    ...image,
    negativePrompt: "blurry, dark",
    sampler: "dpmsolver++",
    spacing: "karras",
    adapters,
  } as const;
  expect(parametersText({ request, clipSkip: 2 }, model)).toBe(
    [
      "a cat",
      "Negative prompt: blurry, dark",
      `Steps: 30, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 42, Size: 512x768, Model hash: 0123456789, Model: sd15, Clip skip: 2, Lora hashes: "cat: ffffffffffff", Lora ranks: "cat: 8, style: 4", Lora multipliers: "cat: 1, style: 0.7", Version: dylora ${dyloraVersion()}`,
    ].join("\n"),
  );
});

test("a model's name is that of its file or folder", () => {
  expect(modelName("/models/sd15.safetensors")).toBe("sd15");
  expect(modelName("/models/stable-diffusion-2.1")).toBe("stable-diffusion-2.1");
});
