import path from "node:path";
import { describe, expect, test } from "vitest";
import { parseAdapterChoice } from "./generate.js";

describe("an adapter on the command line", () => {
  test.each([
    ["cat.safetensors", "cat.safetensors", null, 1],
    ["cat.safetensors:rank=8", "cat.safetensors", 8, 1],
    ["cat.safetensors:multiplier=0.7", "cat.safetensors", null, 0.7],
    ["a/cat:rank=0:multiplier=-1", "a/cat", 0, -1],
    ["cat:multiplier=.5:rank=4", "cat", 4, 0.5],
    // Colons may stand in names, and do in those of Windows.
    ["C:/loras/cat.safetensors:rank=8", "C:/loras/cat.safetensors", 8, 1],
    ["at 12:30.safetensors", "at 12:30.safetensors", null, 1],
  ])("%s", (word, file, rank, multiplier) => {
    expect(parseAdapterChoice(word)).toEqual({ path: path.resolve(file), rank, multiplier });
  });

  test.each([
    "cat:rank=",
    "cat:rank=4.5",
    "cat:rank=-1",
    "cat:multiplier=x",
    "cat:alpha=4",
    "cat:rank=4:rank=8",
  ])("%s is refused", (word) => {
    expect(() => parseAdapterChoice(word)).toThrow(/cannot read :/);
  });
});
