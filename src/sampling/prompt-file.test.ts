import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import { readPromptFile } from "./prompt-file.js";
import { type PromptEntry, parsePromptLine } from "./prompt-line.js";
import { SAMPLER_NAMES } from "./sampler-names.js";

/** As a user writes it. */
function lineOf({ prompt, ...entry }: PromptEntry, order: readonly string[]): string {
  const flags: Readonly<Record<string, string>> = {
    negativePrompt: "n",
    width: "w",
    height: "h",
    seed: "d",
    steps: "s",
    scale: "l",
    sampler: "ss",
  };
  const given = entry as Readonly<Record<string, string | number | undefined>>;
  return [
    prompt,
    ...order.flatMap((key) => (given[key] === undefined ? [] : [`--${flags[key]} ${given[key]}`])),
  ].join(" ");
}

describe("a line", () => {
  test("with every flag, in any order and case", () => {
    expect(
      parsePromptLine(
        "a cat, sitting --N blurry, dark --w 512 --H 768 --d 42 --s 20 --l 7.5 --ss K_Euler_A",
        "",
      ),
    ).toEqual({
      prompt: "a cat, sitting",
      negativePrompt: "blurry, dark",
      width: 512,
      height: 768,
      seed: 42,
      steps: 20,
      scale: 7.5,
      sampler: "euler_a",
    });
  });

  test("is what was written into it", () => {
    // Two dashes behind a space start a flag.
    const words = fc
      .string({ unit: "grapheme", maxLength: 30 })
      .map((text) => text.replace(/\s+/g, " ").replaceAll("--", "").trim());
    const option = <T>(arb: fc.Arbitrary<T>) => fc.option(arb, { nil: undefined });
    const entries = fc.record({
      prompt: words,
      negativePrompt: option(words),
      width: option(fc.integer({ min: 1, max: 4096 })),
      height: option(fc.integer({ min: 1, max: 4096 })),
      seed: option(fc.maxSafeNat()),
      steps: option(fc.integer({ min: 1, max: 1000 })),
      scale: option(fc.integer({ min: 0, max: 4000 }).map((n) => n / 4)),
      sampler: option(fc.constantFrom(...SAMPLER_NAMES)),
    });
    const order = fc.shuffledSubarray(
      ["negativePrompt", "width", "height", "seed", "steps", "scale", "sampler"],
      { minLength: 7 },
    );
    fc.assert(
      fc.property(entries, order, (entry, flags) => {
        const expected = Object.fromEntries(Object.entries(entry).filter(([, found]) => found !== undefined));
        expect(parsePromptLine(lineOf(entry as PromptEntry, flags), "")).toEqual(expected);
      }),
      { numRuns: 300 },
    );
  });

  test.each([
    ["a cat --w 12x", /p, line 1: --w expects a number of pixels, found "12x"/],
    ["a cat --d -1", /--d expects a whole number of at least 0, found "-1"/],
    ["a cat --s 0", /--s expects a whole number from 1 to 1000, found "0"/],
    ["a cat --l", /--l expects a number from 0 to 1000, found ""/],
    ["a cat --s 5 --s 6", /--s is given twice/],
    ["a cat --x 1", /unknown flag --x/],
    ["a cat --cn pose.png", /--cn is not available/],
    ["a cat --ss heun", /--ss heun is not available/],
    ["a cat --ss fast", /--ss expects one of ddim, euler, euler_a, dpmsolver\+\+, found "fast"/],
  ])("%s", (line, message) => {
    expect(() => parsePromptLine(line, "p, line 1")).toThrow(message);
  });
});

describe("a file", () => {
  const read = async (name: string, content: string) => {
    const path = join(await tempFolder(), name);
    await writeFile(path, content);
    return readPromptFile(path);
  };
  const cats = [
    { prompt: "a cat", seed: 1 },
    { prompt: "a dog", negativePrompt: "cat", steps: 5 },
  ];

  test("of lines: comments and empty lines are no prompts", async () => {
    const text = "\ufeff# pictures\r\na cat --d 1\r\n\r\n  a dog --n cat --s 5  \r\n";
    expect(await read("p.txt", text)).toEqual(cats);
  });

  test("of TOML: subsets inherit", async () => {
    const text = `[prompt]\nsample_steps = 5\nsample_sampler = "k_euler"\n[[prompt.subset]]\nprompt = "a cat"\n[[prompt.subset]]\nprompt = "a dog"\nsample_steps = 7\nnegative_prompt = "cat"\n`;
    expect(await read("p.toml", text)).toEqual([
      { prompt: "a cat", steps: 5, sampler: "euler" },
      { prompt: "a dog", steps: 7, sampler: "euler", negativePrompt: "cat" },
    ]);
  });

  test("of JSON: lines and objects", async () => {
    const text = JSON.stringify([
      "a cat --d 1",
      { prompt: "a dog", negative_prompt: "cat", sample_steps: 5 },
    ]);
    expect(await read("p.json", text)).toEqual(cats);
  });

  test.each([
    ["p.txt", "# nothing\n", /there is no prompt in it/],
    ["p.txt", "a cat\na dog --y 3\n", /p\.txt, line 2: unknown flag --y/],
    ["p.md", "a cat", /ends in \.txt, \.toml or \.json/],
    ["p.toml", "[prompt\n", /not valid TOML/],
    ["p.toml", "[prompt]\nwidth = 64\n", /expected a \[\[prompt.subset\]\]/],
    ["p.json", "{}", /expected a list of prompts/],
    ["p.json", "[", /not valid JSON/],
    ["p.json", "[1]", /entry 1: expected an entry with the key prompt/],
    ["p.json", '[{"prompt":"a","enum":1}]', /entry 1: unknown key enum/],
    ["p.json", '[{"prompt":"a","width":"64"}]', /width expects a number of pixels, found "64"/],
  ])("%s with %j is refused", async (name, content, message) => {
    await expect(read(name, content)).rejects.toMatchObject({
      code: "E_CONFIG",
      message: expect.stringMatching(message),
    });
  });

  test("that is not there", async () => {
    await expect(readPromptFile("/nowhere/p.txt")).rejects.toMatchObject({ code: "E_NOT_FOUND" });
  });
});
