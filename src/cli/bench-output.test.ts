import path from "node:path";
import { expect, test } from "vitest";
import { memoryTerminal } from "../../test/helpers/memory-terminal.js";
import { sampleBenchReport } from "../../test/helpers/sample-bench-report.js";
import type { BenchReport, MultiplierResult } from "../evaluation/bench-types.js";
import { benchText } from "./bench-output.js";

const textOf = (report: BenchReport) => benchText(report, memoryTerminal().stdout);

/** The same report with every interval, and everything else, that a function makes of it. */
function changed(report: BenchReport, change: (result: MultiplierResult) => MultiplierResult): BenchReport {
  const files = report.files.map((file) => ({
    ...file,
    ranks: file.ranks.map((rank) => ({ ...rank, multipliers: rank.multipliers.map(change) })),
  }));
  return { ...report, files };
}

test("losses and bands, base first, the recommended rank marked", () => {
  const sample = sampleBenchReport({
    files: [{ name: "cat.safetensors", path: path.resolve("cat.safetensors"), ranks: [4, 8] }],
  });
  expect(textOf({ ...sample, warnings: ["1 image was skipped"] })).toMatchInlineSnapshot(`
    "warning: 1 image was skipped

    12 images x 4 draws, 512x512 px, cpu (CPUExecutionProvider), seed 0
    Differences are paired sample by sample, with 95 % confidence intervals; below 0 is better.

    cat.safetensors
    rank    loss  against rank 8                    against base                   gain    size  of full   step
       0  0.1432  -                                 -                                 -       -        -  80 ms  base model
       4  0.1238  -0.000014 [-0.000514, +0.000486]  -0.0194 [-0.0214, -0.0174]  100.0 %  275 kB     58 %  84 ms  <- recommended
       8  0.1238  -                                 -0.0194 [-0.0214, -0.0174]   99.9 %  475 kB    100 %  88 ms
    Rank 4 is as good as any.

    mean loss by timestep
    rank   0-249  250-499  500-749  750-999
       0  0.2721   0.1575   0.0931   0.0501
       4  0.2352   0.1362   0.0805   0.0433
       8  0.2353   0.1362   0.0805   0.0433
    "
  `);
});

test("says how narrow the intervals were where that was what was waited for", () => {
  const { settings, extent, ...rest } = sampleBenchReport();
  const text = textOf({
    ...rest,
    settings: { ...settings, until: 0.01 },
    extent: { ...extent, stoppedBy: "until", halfWidth: 0.0072 },
  });
  expect(text).toContain(
    "Stopped when the widest interval was ±0.72 % of the base model's loss (--until 0.01).\n",
  );
});

test("strengths have a column where there is a choice", () => {
  const text = textOf(sampleBenchReport({ multipliers: [0.5, 1] }));
  expect(text).toMatch(/^rank {2}strength {4}loss/m);
  expect(text).toMatch(/^ {3}4 {7}0\.5 {2}/m);
});

test("a file of one rank has no columns that compare ranks; of several files, one is chosen", () => {
  const text = textOf(
    sampleBenchReport({
      files: [
        { name: "a", ranks: [8] },
        { name: "b", ranks: [8] },
      ],
    }),
  );
  expect(text).not.toContain("against rank 8");
  expect(text).toContain("against base");
  expect(text).toContain("\nAll files\n");
});

test("an interval that one image gives no bounds for is not printed as numbers", () => {
  const infinite = { ciLow: Number.NEGATIVE_INFINITY, ciHigh: Number.POSITIVE_INFINITY };
  const report = changed(sampleBenchReport(), (result) => ({
    ...result,
    versusBase: { mean: -0.05, ...infinite },
  }));
  const text = textOf(report);
  expect(text).toContain("-0.0500 (one image)");
  expect(text).not.toContain("Infinity");
});
