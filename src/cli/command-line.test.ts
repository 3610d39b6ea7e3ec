import path from "node:path";
import { expect, test } from "vitest";
import type { OptionTable } from "../options/option-spec.js";
import { commandLine } from "./command-line.js";

const about = { group: "Options", description: "" };
const table = {
  some_ranks: { type: "integers", default: null, min: 0, ...about },
  strengths: { type: "numbers", default: [1], min: -1, max: 1, ...about },
  out_file: { type: "path", default: null, ...about },
  size: { type: "resolution", default: null, ...about },
  words: { type: "list", default: [], ...about },
  on: { type: "boolean", default: false, ...about },
  off: { type: "boolean", default: false, ...about },
  name: { type: "text", default: null, ...about },
  count: { type: "integer", default: 1, ...about },
} as const satisfies OptionTable;

const given = {
  someRanks: [4, 8],
  strengths: [0.5, 1],
  outFile: path.resolve("my losses.jsonl"),
  size: { width: 768, height: 512 },
  words: ["a=1", "b=2"],
  on: true,
  off: false,
  name: null,
};

test("every kind of option is written as it is read", () => {
  expect(
    commandLine({ command: "try", flagStyle: "sd-scripts", table }, ["a b.safetensors", "c"], given),
  ).toBe(
    'dylora try "a b.safetensors" c --some_ranks 4,8 --strengths 0.5,1 --out_file "my losses.jsonl" --size 768,512 --words a=1 b=2 --on --no_off',
  );
});

test("in the command's own spelling", () => {
  expect(
    commandLine({ command: "try", flagStyle: "kebab", table }, [], {
      outFile: "/x/y",
      size: { width: 64, height: 64 },
      count: 0,
    }),
  ).toBe("dylora try --out-file /x/y --size 64 --count 0");
});
