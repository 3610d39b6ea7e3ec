import { expect, test } from "vitest";
import { parseFolderName, suggestFolderName } from "./folder-name.js";

test.each([
  ["10_sks dog", { repeats: 10, classTokens: "sks dog" }],
  ["1_a_b_c", { repeats: 1, classTokens: "a_b_c" }],
  ["007_bond", { repeats: 7, classTokens: "bond" }],
  ["5_", { repeats: 5, classTokens: "" }],
  ["5", { repeats: 5, classTokens: "" }],
  ["0_off", { repeats: 0, classTokens: "off" }],
  ["cat", null],
  ["10cat", null],
  ["-1_cat", null],
  ["1.5_cat", null],
  ["_cat", null],
  ["", null],
])("parseFolderName(%j)", (name, expected) => {
  expect(parseFolderName(name)).toEqual(expected);
});

test.each([
  ["cat", "1_cat"],
  ["10 cat", "10_cat"],
  ["10-cat", "10_cat"],
  ["10x cat", "10_cat"],
  ["cat_10", "10_cat"],
  ["3d models", "1_3d models"],
  ["2024-01-05 trip", "1_2024-01-05 trip"],
])("suggestFolderName(%j) is %j, which parses", (name, suggested) => {
  expect(suggestFolderName(name)).toBe(suggested);
  expect(parseFolderName(suggested)?.repeats).toBeGreaterThan(0);
});
