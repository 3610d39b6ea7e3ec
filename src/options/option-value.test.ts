import path from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { OptionSpec } from "./option-spec.js";
import { type Reading, readData, readText } from "./option-value.js";

const base = { group: "g", description: "d" };
const rank: OptionSpec = { ...base, type: "integer", default: 4, min: 1 };
const share: OptionSpec = { ...base, type: "number", default: 0, min: 0, below: 1 };
const scheduler: OptionSpec = {
  ...base,
  type: "enum",
  default: "constant",
  values: ["constant", "cosine"],
  aliases: { "diffusers.cosine": "cosine" },
  refused: { adafactor: "Use constant." },
};
const optimizer: OptionSpec = {
  ...base,
  type: "enum",
  default: "AdamW",
  values: ["AdamW"],
  ignoreCase: true,
};
const warmup: OptionSpec = { ...base, type: "steps", default: 0 };
const resolution: OptionSpec = { ...base, type: "resolution", default: null };
const ranks: OptionSpec = { ...base, type: "integers", default: null, min: 0 };
const strengths: OptionSpec = { ...base, type: "numbers", default: [1], min: -2, max: 2 };
const list: OptionSpec = { ...base, type: "list", default: [] };
const text: OptionSpec = { ...base, type: "text", default: null };
const file: OptionSpec = { ...base, type: "path", default: null };
const flip: OptionSpec = { ...base, type: "boolean", default: false };
const rate: OptionSpec = { ...base, type: "number", default: null, min: 0, listOfOne: true };

const outcomeOf = (reading: Reading) => (reading.ok ? reading.value : `expected ${reading.expected}`);

/** The type of the option first: it names the test. */
function named<Given>(cases: [OptionSpec, Given, unknown][]): [string, Given, OptionSpec, unknown][] {
  return cases.map(([spec, given, expected]) => [spec.type, given, spec, expected]);
}

describe("texts from the command line", () => {
  test.each(
    named<string>([
      [rank, "8", 8],
      [rank, "+8", 8],
      [rank, "0", "expected a whole number of at least 1"],
      [rank, "1.5", "expected a whole number of at least 1"],
      [rank, "", "expected a whole number of at least 1"],
      [rank, "0x10", "expected a whole number of at least 1"],
      [rank, "8 ranks", "expected a whole number of at least 1"],
      [rank, "99999999999999999999", "expected a whole number of at least 1"],
      [share, ".25", 0.25],
      [share, "2.5e-1", 0.25],
      [share, "1", "expected a number of at least 0 and below 1"],
      [share, "NaN", "expected a number of at least 0 and below 1"],
      [warmup, "100", 100],
      [warmup, "0.1", 0.1],
      [warmup, "10%", 0.1],
      [warmup, "1.5", 'expected a number of steps, or a share of all steps below 1 (0.1 or "10%")'],
      [warmup, "-1", 'expected a number of steps, or a share of all steps below 1 (0.1 or "10%")'],
      [resolution, "512", { width: 512, height: 512 }],
      [resolution, "768,512", { width: 768, height: 512 }],
      [resolution, "768,512,3", 'expected a size in pixels: "512", or "768,512" for width and height'],
      [resolution, "0", 'expected a size in pixels: "512", or "768,512" for width and height'],
      [ranks, "4,8,16", [4, 8, 16]],
      [ranks, "0", [0]],
      [ranks, "4,,8", "expected whole numbers of at least 0, separated by commas: 4,8,16"],
      [strengths, "0.5,-1,2", [0.5, -1, 2]],
      [strengths, "1", [1]],
      [strengths, "0.5,3", "expected numbers from -2 to 2, separated by commas: 0.5,1"],
      [strengths, "0.5,", "expected numbers from -2 to 2, separated by commas: 0.5,1"],
      [scheduler, "cosine", "cosine"],
      [scheduler, "diffusers.cosine", "cosine"],
      [scheduler, "Cosine", "expected one of constant, cosine"],
      [optimizer, "adamw", "AdamW"],
      [text, "", ""],
      [file, "x.safetensors", path.resolve("x.safetensors")],
      [file, "", "expected a path"],
    ]),
  )("%s: %j", (_, typed, spec, expected) => {
    expect(outcomeOf(readText(spec, typed))).toEqual(expected);
  });

  test("a refused value says why", () => {
    expect(readText(scheduler, "adafactor")).toMatchObject({ ok: false, refusedBecause: "Use constant." });
  });

  test("every number that JavaScript prints is read back", () => {
    const anything: OptionSpec = { ...base, type: "number", default: 0 };
    fc.assert(
      fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (value) => {
        // JavaScript prints -0 as "0".
        expect(outcomeOf(readText(anything, String(value)))).toBe(value + 0);
      }),
    );
  });
});

describe("typed values", () => {
  test.each(
    named<unknown>([
      [rank, 8, 8],
      [rank, "8", "expected a whole number of at least 1"],
      [rank, true, "expected a whole number of at least 1"],
      [rank, [8], "expected a whole number of at least 1"],
      [rate, [1e-4], 1e-4],
      [rate, [1e-4, 1e-5], "expected a number of at least 0"],
      [warmup, "10%", 0.1],
      [warmup, "100", 'expected a number of steps, or a share of all steps below 1 (0.1 or "10%")'],
      [resolution, 512, { width: 512, height: 512 }],
      [resolution, "768,512", { width: 768, height: 512 }],
      [resolution, [768, 512], { width: 768, height: 512 }],
      [resolution, { width: 768, height: 512 }, { width: 768, height: 512 }],
      [strengths, [0.5, 1], [0.5, 1]],
      [strengths, [], "expected numbers from -2 to 2, separated by commas: 0.5,1"],
      [strengths, [Number.NaN], "expected numbers from -2 to 2, separated by commas: 0.5,1"],
      [strengths, 1, "expected numbers from -2 to 2, separated by commas: 0.5,1"],
      [flip, true, true],
      [flip, "true", "expected true or false"],
      [flip, 1, "expected true or false"],
      [list, ["unit=4"], ["unit=4"]],
      [list, "unit=4", 'expected a list of texts such as ["key=value"]'],
      [list, [4], 'expected a list of texts such as ["key=value"]'],
      [text, 5, "expected a text"],
      [ranks, [4, 8], [4, 8]],
      [ranks, [4, 0.5], "expected whole numbers of at least 0, separated by commas: 4,8,16"],
    ]),
  )("%s: %j", (_, data, spec, expected) => {
    expect(outcomeOf(readData(spec, data))).toEqual(expected);
  });
});
