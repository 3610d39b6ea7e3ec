import path from "node:path";
import { expect, test } from "vitest";
import { memoryTerminal } from "../../test/helpers/memory-terminal.js";
import type { BenchReport } from "../evaluation/bench-types.js";
import { benchText } from "./bench-output.js";

const report: BenchReport = {
  device: "cpu",
  provider: "CPUExecutionProvider",
  modelPath: "/models/sd15.safetensors",
  dataDir: "/data/held",
  width: 64,
  height: 64,
  buckets: [],
  imageCount: 12,
  sampleCount: 48,
  seed: 0,
  baseMeanLoss: 0.2,
  files: [
    {
      path: path.resolve("cat.safetensors"),
      maxRank: 8,
      ranks: [
        {
          rank: 4,
          meanLoss: 0.15,
          versusFullRank: { mean: 0.0004, ciLow: -0.001, ciHigh: 0.0021 },
          versusBase: { mean: -0.05, ciLow: -0.06, ciHigh: -0.04 },
          fileSizeBytes: 650_000,
        },
        {
          rank: 8,
          meanLoss: 0.1496,
          versusFullRank: null,
          versusBase: { mean: -0.0504, ciLow: -0.061, ciHigh: -0.041 },
          fileSizeBytes: 1_300_000,
        },
      ],
      recommendedRank: 4,
      recommendation: "Rank 4 is the smallest whose loss cannot be told from the best one's.",
    },
  ],
  warnings: ["1 image was skipped"],
  seconds: 12,
  peakRssBytes: 800_000_000,
};

test("one table per file, base first, the recommended rank marked", () => {
  expect(benchText(report, memoryTerminal().stdout)).toMatchInlineSnapshot(`
    "warning: 1 image was skipped

    12 images, 48 losses per rank, 64x64 px, cpu (CPUExecutionProvider), seed 0
    Differences are paired sample by sample, with 95 % confidence intervals; below 0 is better.

    cat.safetensors
    rank  mean loss  against rank 8                 against base                  size
       0     0.2000  +0.0504 [+0.0410, +0.0610]     -                                -  base model
       4     0.1500  +0.00040 [-0.00100, +0.00210]  -0.0500 [-0.0600, -0.0400]  650 kB  <- recommended
       8     0.1496  -                              -0.0504 [-0.0610, -0.0410]  1.3 MB
    Rank 4 is the smallest whose loss cannot be told from the best one's.
    "
  `);
});

test("an interval that too few images give no bounds for is not printed as numbers", () => {
  const [file] = report.files;
  const ranks = file!.ranks.map((rank) => ({
    ...rank,
    versusBase: { ...rank.versusBase, ciLow: Number.NEGATIVE_INFINITY, ciHigh: Number.POSITIVE_INFINITY },
  }));
  const text = benchText({ ...report, files: [{ ...file!, ranks }] }, memoryTerminal().stdout);
  expect(text).toContain("-0.0500 [too few images]");
  expect(text).not.toContain("Infinity");
});
