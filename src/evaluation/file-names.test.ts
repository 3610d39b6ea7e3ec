import { sep } from "node:path";
import { expect, test } from "vitest";
import { shortNames } from "./file-names.js";

const at = (...parts: string[]) => sep + parts.join(sep);

test.each([
  [[at("x", "cat.safetensors")], ["cat.safetensors"]],
  [
    [at("x", "cat.safetensors"), at("x", "dog.safetensors")],
    ["cat.safetensors", "dog.safetensors"],
  ],
  [
    [at("x", "a", "last"), at("x", "b", "last"), at("x", "b", "other")],
    ["a/last", "b/last", "other"],
  ],
  // One path is the end of the other.
  [
    [at("last"), at("a", "last")],
    [at("last"), "a/last"],
  ],
  [
    [at("x", "cat"), at("x", "cat")],
    ["cat", "cat"],
  ],
])("%j", (paths, names) => {
  expect(shortNames(paths)).toEqual(names);
});
