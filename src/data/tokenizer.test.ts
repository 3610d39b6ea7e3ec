import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import { SafetensorsFile } from "../safetensors/index.js";
import { cleanClipText } from "./clip-text.js";
import { type BpeVocabulary, bundledClipVocabulary, clipTokenizerJson } from "./clip-vocabulary.js";
import { CLIP_TOKENS, type ClipTokenizer, loadClipTokenizer } from "./tokenizer.js";

const START = 49406;
const END = 49407;

interface RecordedPrompt {
  prompt: string;
  /** What openai/CLIP's SimpleTokenizer gave; see fixtures/README.md. */
  ids: number[];
}

let bundled: ClipTokenizer;
let vocabulary: BpeVocabulary;
let ranks: ReadonlyMap<string, number>;
let recorded: RecordedPrompt[];

beforeAll(async () => {
  bundled = await loadClipTokenizer({ tokenizerDir: null, version: "sd1" });
  vocabulary = await bundledClipVocabulary();
  ranks = new Map(vocabulary.merges.map((merge, rank) => [merge, rank]));
  recorded = JSON.parse(await readFile(join(import.meta.dirname, "../../fixtures/clip-tokens.json"), "utf8"));
});

/** Start, the first 75 tokens, end, padding. */
function padded(tokens: readonly number[], padId: number): number[] {
  const ids = [START, ...tokens.slice(0, 75), END];
  return [...ids, ...new Array(CLIP_TOKENS - ids.length).fill(padId)];
}

describe("the bundled vocabulary", () => {
  test("has CLIP's 49408 tokens and 48894 merges", () => {
    expect(Object.keys(vocabulary.vocab)).toHaveLength(49408);
    expect(vocabulary.merges).toHaveLength(48894);
    expect(vocabulary.merges.every((merge) => merge.split(" ").length === 2)).toBe(true);
    expect(bundled.vocabularySize).toBe(49408);
    expect([bundled.startId, bundled.endId, bundled.source]).toEqual([START, END, "bundled CLIP vocabulary"]);
  });

  test("gives the ids that openai/CLIP gives: unicode, emoji, punctuation, entities, long prompts", () => {
    expect(recorded.length).toBeGreaterThan(30);
    for (const { prompt, ids } of recorded) {
      expect(bundled.encode(prompt), prompt).toEqual({
        ids: padded(ids, END),
        tokenCount: ids.length,
        truncatedTokens: Math.max(ids.length - 75, 0),
      });
    }
  });

  test("pads with the end token for SD 1 and with 0 for SD 2", async () => {
    const sd2 = await loadClipTokenizer({ tokenizerDir: null, version: "sd2" });
    const tokens = [320, 1125, 539, 320, 2368];
    expect(bundled.encode("a photo of a cat").ids).toEqual(padded(tokens, END));
    expect(sd2.encode("a photo of a cat").ids).toEqual(padded(tokens, 0));
    expect(sd2.encode("").ids).toEqual(padded([], 0));
  });

  test.each(["sd1", "sd2"] as const)("agrees with the golden tokens of %s", async (version) => {
    const path = join(import.meta.dirname, `../../../shared/golden/${version}-tiny/cases.safetensors`);
    if (!existsSync(path)) return;
    await using file = await SafetensorsFile.open(path);
    const bytes = await file.read("tokens");
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const golden = Array.from({ length: CLIP_TOKENS }, (_, index) =>
      Number(view.getBigInt64(8 * index, true)),
    );
    const tokenizer = await loadClipTokenizer({ tokenizerDir: null, version });
    expect(tokenizer.encode("a photo of a cat").ids).toEqual(golden);
  });
});

describe("length", () => {
  test("reports what does not fit", () => {
    const words = (count: number) => bundled.encode(new Array(count).fill("cat").join(" "));
    expect(words(75)).toMatchObject({ tokenCount: 75, truncatedTokens: 0 });
    expect(words(75).ids).toEqual([START, ...new Array(75).fill(2368), END]);
    expect(words(80)).toMatchObject({ tokenCount: 80, truncatedTokens: 5 });
    expect(words(80).ids).toEqual(words(75).ids);
  });
});

/** Byte-pair encoding as its definition says: merge the pair of lowest rank, everywhere, until none is left. */
function referenceBpe(text: string): number[] {
  const { vocab, merges } = vocabulary;
  const printable = (byte: number) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  const hidden = Array.from({ length: 256 }, (_, byte) => byte).filter((byte) => !printable(byte));
  const symbolOf = (byte: number) => String.fromCharCode(printable(byte) ? byte : 256 + hidden.indexOf(byte));
  const words = text.match(/'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+/gu) ?? [];
  return words.flatMap((word) => {
    let parts = Array.from(new TextEncoder().encode(word), symbolOf);
    parts.push(`${parts.pop()}</w>`);
    for (;;) {
      const pairs = parts.slice(1).map((right, index) => `${parts[index]} ${right}`);
      const best = Math.min(...pairs.map((pair) => ranks.get(pair) ?? Number.POSITIVE_INFINITY));
      if (best === Number.POSITIVE_INFINITY) return parts.map((part) => vocab[part]!);
      const merged: string[] = [];
      for (let index = 0; index < parts.length; index++) {
        if (pairs[index] === merges[best]) merged.push(parts[index]! + parts[++index]!);
        else merged.push(parts[index]!);
      }
      parts = merged;
    }
  });
}

test("byte-pair encoding agrees with its definition on any text", () => {
  const texts = fc.oneof(
    fc.string({ unit: "grapheme", maxLength: 40 }),
    fc.string({ unit: fc.constantFrom(..."abcdeilnorst' ,0"), maxLength: 60 }),
    fc.string({
      unit: fc.constantFrom("日", "本", "é", "ß", "ж", "한", "\u{1f600}", "\u200d", " ", "!"),
      maxLength: 20,
    }),
  );
  fc.assert(
    fc.property(texts, (text) => {
      const expected = referenceBpe(cleanClipText(text));
      expect(bundled.encode(text).tokenCount).toBe(expected.length);
      expect(bundled.encode(text).ids).toEqual(padded(expected, END));
    }),
    { numRuns: 300 },
  );
}, 120_000);

describe("a checkpoint's tokenizer folder", () => {
  const write = async (files: Record<string, unknown>) => {
    const dir = await tempFolder();
    for (const [name, content] of Object.entries(files)) {
      await writeFile(join(dir, name), typeof content === "string" ? content : JSON.stringify(content));
    }
    return dir;
  };
  const merges = () => `#version: 0.2\n${vocabulary.merges.join("\n")}\n`;

  test("as tokenizer.json, and as vocab.json with merges.txt, gives the same ids", async () => {
    for (const files of [
      { "tokenizer.json": clipTokenizerJson(vocabulary) },
      { "vocab.json": vocabulary.vocab, "merges.txt": merges() },
    ]) {
      const dir = await write(files);
      const tokenizer = await loadClipTokenizer({ tokenizerDir: dir, version: "sd1" });
      expect(tokenizer.source).toBe(join(dir, Object.keys(files)[0]!));
      for (const { prompt } of recorded)
        expect(tokenizer.encode(prompt), prompt).toEqual(bundled.encode(prompt));
    }
  });

  test("decides the padding where it names it", async () => {
    const base = { "vocab.json": vocabulary.vocab, "merges.txt": merges() };
    const padOf = async (extra: Record<string, unknown>, version: "sd1" | "sd2") =>
      (await loadClipTokenizer({ tokenizerDir: await write({ ...base, ...extra }), version })).padId;
    expect(await padOf({}, "sd2")).toBe(0);
    expect(await padOf({ "special_tokens_map.json": { pad_token: "!" } }, "sd1")).toBe(0);
    expect(await padOf({ "tokenizer_config.json": { pad_token: { content: "<|endoftext|>" } } }, "sd2")).toBe(
      END,
    );
    expect(await padOf({ "special_tokens_map.json": { pad_token: null } }, "sd1")).toBe(END);
  });

  test.each([
    ["nothing", {}, "E_NOT_FOUND", "holds neither"],
    ["half of it", { "vocab.json": {} }, "E_NOT_FOUND", "holds neither"],
    ["broken JSON", { "tokenizer.json": "{" }, "E_FORMAT", "tokenizer.json cannot be read"],
    ["no object", { "tokenizer.json": "[1]" }, "E_FORMAT", "not a JSON object"],
    [
      "another kind of file",
      { "tokenizer.json": { model: { type: "BPE" } } },
      "E_FORMAT",
      "not a usable tokenizer",
    ],
    [
      "another model's tokenizer",
      { "vocab.json": { "a</w>": 0 }, "merges.txt": "#version: 0.2\n" },
      "E_INCOMPATIBLE",
      "has no <|startoftext|>",
    ],
  ])("with %s is refused", async (_, files, code, message) => {
    const dir = await write(files as Record<string, unknown>);
    await expect(loadClipTokenizer({ tokenizerDir: dir, version: "sd1" })).rejects.toMatchObject({
      code,
      message: expect.stringContaining(message),
    });
  });
});
