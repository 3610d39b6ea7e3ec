import { describe, expect, test } from "vitest";
import {
  formatBytes,
  formatCount,
  formatDifference,
  formatDuration,
  formatLearningRate,
  formatLoss,
  formatPath,
  formatPercent,
  formatQuantity,
  formatRanks,
  formatRate,
  quoteArgument,
} from "./format.js";

describe("formatBytes", () => {
  test.each([
    [0, "0 B"],
    [999, "999 B"],
    [1000, "1.0 kB"],
    [1049, "1.0 kB"],
    [99_900, "99.9 kB"],
    [99_960, "100 kB"],
    [999_499, "999 kB"],
    [999_500, "1.0 MB"],
    [151_000_000, "151 MB"],
    [5_104_000_000, "5.1 GB"],
    [7_000_000_000_000_000, "7000 TB"],
    [Number.NaN, "?"],
  ])("%d -> %s", (bytes, text) => expect(formatBytes(bytes)).toBe(text));
});

describe("formatDuration", () => {
  test.each([
    [0.04, "0.0s"],
    [9.94, "9.9s"],
    [9.96, "10s"],
    [59.4, "59s"],
    [60, "1m 00s"],
    [125, "2m 05s"],
    [599, "9m 59s"],
    [600, "10m"],
    [3540, "59m"],
    [3599, "59m"],
    [3600, "1h 00m"],
    [3725, "1h 02m"],
    [86_399, "23h 59m"],
    [86_400, "1d 00h"],
    [200_000, "2d 07h"],
    [Number.POSITIVE_INFINITY, "?"],
    [-1, "?"],
  ])("%d s -> %s", (seconds, text) => expect(formatDuration(seconds)).toBe(text));
});

describe("formatRate", () => {
  test.each([
    [1.94, "1.9 s/it"],
    [1, "1.0 s/it"],
    [120.4, "120 s/it"],
    [0.5, "2.0 it/s"],
    [0.08, "13 it/s"],
    [0, "?"],
  ])("%d s -> %s", (seconds, text) => expect(formatRate(seconds)).toBe(text));
});

test("losses keep four digits, however small", () => {
  expect([0.1042, 0, 0.00012346, Number.NaN].map(formatLoss)).toEqual([
    "0.1042",
    "0.0000",
    "1.235e-4",
    "NaN",
  ]);
});

test("differences show their sign, all with the digits that the largest needs", () => {
  expect([0.01, -0.0512, 0].map((value) => formatDifference(value, 0.0512))).toEqual([
    "+0.0100",
    "-0.0512",
    "0.0000",
  ]);
  expect([0.0004, -0.0021].map((value) => formatDifference(value, 0.0021))).toEqual(["+0.00040", "-0.00210"]);
  expect(formatDifference(2e-12, 2e-12)).toBe("+0.00000000");
  expect(formatDifference(3, 3)).toBe("+3.0000");
});

test("learning rates, counts, percentages, ranks", () => {
  expect([1e-4, 5.55e-5, 0].map(formatLearningRate)).toEqual(["1.0e-4", "5.6e-5", "0"]);
  expect(formatCount(3_188_736)).toBe("3,188,736");
  expect([
    formatQuantity(1, "image"),
    formatQuantity(2, "image"),
    formatQuantity(0, "match", "matches"),
  ]).toEqual(["1 image", "2 images", "0 matches"]);
  expect([0, 0.001, 0.364, 12.34, 100].map(formatPercent)).toEqual([
    "0.00 %",
    "1.0e-3 %",
    "0.36 %",
    "12.3 %",
    "100.0 %",
  ]);
  expect([[8], [4, 8, 16], []].map(formatRanks)).toEqual(["8", "4-16", "-"]);
});

test("paths are relative to the working directory where they lie inside", () => {
  expect(formatPath("/work/output/cat.safetensors", "/work")).toBe("output/cat.safetensors");
  expect(formatPath("/work", "/work")).toBe("/work");
  expect(formatPath("/workshop/cat", "/work")).toBe("/workshop/cat");
  expect(formatPath("/tmp/cat", "/")).toBe("tmp/cat");
  expect(formatPath("C:\\work\\out\\cat", "C:\\work")).toBe("out\\cat");
});

test("arguments that a shell would take apart are quoted", () => {
  expect(quoteArgument("output/last-state")).toBe("output/last-state");
  expect(quoteArgument("my cats/last-state")).toBe('"my cats/last-state"');
});
