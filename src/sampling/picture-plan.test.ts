import { basename } from "node:path";
import { describe, expect, test } from "vitest";
import { createGenerateOptions, type GenerateOptionsInput } from "./generate-options.js";
import type { LoadedAdapter } from "./loaded-adapter.js";
import { planPictures, readPrompts } from "./picture-plan.js";
import type { PromptEntry } from "./prompt-line.js";

const adapter = (name: string, maxRank: number): LoadedAdapter => ({
  name,
  path: `${name}.safetensors`,
  maxRank,
  metadata: {},
  targets: [],
  checkRank: () => {},
  activate: () => [],
});
const cat = adapter("cat", 16);
const style = adapter("style", 8);

/** Names of the files, and of every adapter in them its rank and strength. */
function plan(
  input: Partial<GenerateOptionsInput>,
  prompts: readonly PromptEntry[] = [{ prompt: "a cat" }],
  adapters: readonly LoadedAdapter[] = [],
) {
  const options = createGenerateOptions({ pretrainedModelNameOrPath: "sd15", seed: 3, ...input });
  return planPictures(options, prompts, adapters, { width: 512, height: 512 }).map(({ path, image }) => ({
    name: basename(path),
    image,
    adapters: image.adapters!.map((one) => `${one.adapter.name} ${one.rank} x ${one.multiplier}`),
  }));
}

test("a picture of every prompt, with every seed, at every rank", () => {
  const drawn = plan(
    {
      ranks: [0, 8],
      imagesPerPrompt: 2,
      adapters: [{ path: "cat" }, { path: "style", rank: 4, multiplier: 0.5 }],
    },
    [{ prompt: "a cat" }, { prompt: "a dog", seed: 9 }],
    [cat, style],
  );
  expect(drawn.map(({ name }) => name)).toEqual([
    "00-seed3-rank0.png",
    "00-seed3-rank8.png",
    "00-seed4-rank0.png",
    "00-seed4-rank8.png",
    "01-seed9-rank0.png",
    "01-seed9-rank8.png",
    "01-seed10-rank0.png",
    "01-seed10-rank8.png",
  ]);
  expect(drawn.map(({ image }) => image.seed)).toEqual([3, 3, 4, 4, 9, 9, 10, 10]);
  expect(drawn[0]!.adapters).toEqual(["cat 0 x 1", "style 4 x 0.5"]);
  expect(drawn[1]!.adapters).toEqual(["cat 8 x 1", "style 4 x 0.5"]);
});

test("without ranks every adapter is at its own", () => {
  const [drawn] = plan({ adapters: [{ path: "cat" }, { path: "style" }] }, undefined, [cat, style]);
  expect(drawn!.name).toBe("00-seed3.png");
  expect(drawn!.adapters).toEqual(["cat 16 x 1", "style 8 x 1"]);
});

test("what a prompt says wins over the options, and they over what the adapter was trained with", () => {
  const own = { prompt: "a dog", width: 64, steps: 5, negativePrompt: "cat", sampler: "euler" } as const;
  const [first, second, third] = [
    ...plan({ scale: 2, steps: 7 }, [{ prompt: "a cat" }, own]),
    ...plan({ resolution: { width: 256, height: 128 } }),
  ];
  expect(first!.image).toMatchObject({ width: 512, height: 512, steps: 7, scale: 2, sampler: "ddim" });
  expect(second!.image).toMatchObject({ ...own, height: 512, scale: 2 });
  expect(third!.image).toMatchObject({ width: 256, height: 128 });
});

test("without a seed there is a random one, the same for every prompt", () => {
  const seeds = plan({ seed: null }, [{ prompt: "a" }, { prompt: "b" }]).map(({ image }) => image.seed);
  expect(seeds[0]).toBe(seeds[1]);
  expect(Number.isSafeInteger(seeds[0])).toBe(true);
});

describe("refused", () => {
  test("ranks that nothing can follow", () => {
    expect(() => plan({ ranks: [4] })).toThrow("--ranks needs a LoRA file");
    const owned = { ranks: [4], adapters: [{ path: "cat", rank: 8 }] };
    expect(() => plan(owned, undefined, [cat])).toThrow("every file has a rank of its own");
  });

  test("no prompt, and two sources of prompts", async () => {
    const code = "E_USAGE";
    await expect(readPrompts({ prompt: null, fromFile: null })).rejects.toMatchObject({ code });
    await expect(readPrompts({ prompt: "a", fromFile: "b.txt" })).rejects.toMatchObject({ code });
    expect(await readPrompts({ prompt: "", fromFile: null })).toEqual([{ prompt: "" }]);
  });
});
