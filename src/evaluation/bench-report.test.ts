import { describe, expect, test } from "vitest";
import { randomStream } from "../random/stream.js";
import type { BenchAdapter } from "./bench-adapter.js";
import { benchResults, type MeasuredBench, widestHalfWidth } from "./bench-report.js";

const IMAGES = ["a", "b", "c", "d", "e", "f"];
const samples = IMAGES.flatMap((image) => Array.from({ length: 8 }, (_, draw) => ({ image, draw })));

/** Losses that fall with the band and hang together by image, lowered by `gain`. */
const losses = (gain: number, name: string, spread = 0.001) => {
  const random = randomStream(1, name);
  return Float64Array.from(
    samples,
    ({ image, draw }) =>
      1 - 0.1 * (draw % 4) + 0.05 * IMAGES.indexOf(image) - gain + spread * random.normal(),
  );
};

const adapter = (path: string, ranks: readonly number[], bytesPerRank: number): BenchAdapter => ({
  ...{ path, isDylora: ranks.length > 1, dialect: "kohya", maxRank: ranks.at(-1)!, isMixed: false, ranks },
  loaded: undefined as unknown as BenchAdapter["loaded"],
  fileSizeBytes: (rank) => rank * bytesPerRank,
  key: () => "",
});

const variant = (file: number, rank: number, multiplier: number, gain: number, seconds: number[] = []) => ({
  ...{ file, rank, multiplier, seconds },
  losses: losses(gain, `${file} ${rank} ${multiplier}`),
});

/** A DyLoRA at two ranks and two strengths, and a smaller file that is nearly as good as its best. */
const measured: MeasuredBench = {
  samples,
  base: { losses: losses(0, "base"), seconds: [3, 1, 2] },
  adapters: [adapter("/x/dylora", [4, 8], 100), adapter("/x/plain", [16], 10)],
  names: ["dylora", "plain"],
  variants: [
    variant(0, 4, 0.5, 0.1, [1, 2]),
    variant(0, 4, 1, 0.16, [3, 4]),
    variant(0, 8, 0.5, 0.12),
    variant(0, 8, 1, 0.2),
    variant(1, 16, 0.5, 0.1),
    variant(1, 16, 1, 0.196),
  ],
  multipliers: [0.5, 1],
  tolerance: 0.05,
  seed: 0,
};

describe("benchResults", () => {
  const { base, files, recommendation } = benchResults(measured);
  const at = (file: number, rank: number, multiplier: number) =>
    files[file]!.ranks.find((entry) => entry.rank === rank)!.multipliers.find(
      (entry) => entry.multiplier === multiplier,
    )!;

  test("each rank is compared with the full rank of its file at its own strength", () => {
    expect(at(0, 4, 0.5).versusFullRank!.mean).toBeCloseTo(0.02, 2);
    expect(at(0, 4, 1).versusFullRank!.mean).toBeCloseTo(0.04, 2);
    expect([at(0, 8, 0.5), at(0, 8, 1), at(1, 16, 1)].map(({ versusFullRank }) => versusFullRank)).toEqual([
      null,
      null,
      null,
    ]);
  });

  test("everything is compared with the best of all files, and its share of that one's gain told", () => {
    expect(at(0, 8, 1)).toMatchObject({ versusBest: null, gainKept: 1 });
    expect(at(1, 16, 1).versusBest!.mean).toBeCloseTo(0.004, 2);
    expect(at(1, 16, 1).gainKept).toBeCloseTo(0.98, 2);
    expect(at(0, 4, 0.5).gainKept).toBeCloseTo(0.5, 1);
  });

  test("a band has its own losses and differences", () => {
    for (const [band, meanLoss] of base.bands.entries()) {
      expect(meanLoss).toBeCloseTo(1.125 - 0.1 * band, 2);
      const summary = at(0, 4, 1).bands[band]!;
      expect(summary.meanLoss - meanLoss).toBeCloseTo(-0.16, 2);
      expect(summary.versusBase.mean).toBeCloseTo(summary.meanLoss - meanLoss, 10);
      expect(summary.versusFullRank!.mean).toBeCloseTo(0.04, 2);
    }
    expect(base.lossByImage).toHaveLength(IMAGES.length);
    expect(base.lossByImage[5]! - base.lossByImage[0]!).toBeCloseTo(0.25, 2);
  });

  test("a rank has the median of its times, at whatever strength; what nobody timed has none", () => {
    expect(base.secondsPerStep).toBe(2);
    expect(files[0]!.ranks.map(({ secondsPerStep }) => secondsPerStep)).toEqual([2.5, null]);
    expect(files[0]!.ranks.map(({ fileSizeBytes, relativeSize }) => [fileSizeBytes, relativeSize])).toEqual([
      [400, 0.5],
      [800, 1],
    ]);
  });

  test("each file has its choice by rank, and all together one by size", () => {
    expect(files[0]!.recommendation).toMatchObject({ rank: 8, multiplier: 1, bestRank: 8 });
    expect(recommendation).toMatchObject({
      ...{ file: 1, rank: 16, multiplier: 1 },
      ...{ bestFile: 0, bestRank: 8, bestMultiplier: 1 },
    });
    expect(recommendation.reason).toMatch(
      /^Rank 16 at 1 of plain is the smallest .* the best, rank 8 at 1 of dylora,/,
    );
  });

  test("nothing gains on a base model that is better than all", () => {
    const results = benchResults({ ...measured, base: { losses: losses(0.5, "good"), seconds: [] } });
    for (const { multipliers } of results.files.flatMap(({ ranks }) => ranks)) {
      for (const { gainKept } of multipliers) expect(gainKept).toBeNull();
    }
    expect(results.recommendation.reason).toContain("nothing is shown to be better than the base model");
  });
});

describe("widestHalfWidth", () => {
  test("looks at differences to the full rank, and of a file with one rank to the base model", () => {
    const results = benchResults(measured);
    const reach = (difference: { ciLow: number; ciHigh: number }) =>
      (difference.ciHigh - difference.ciLow) / 2;
    const reaches = [
      ...results.files[0]!.ranks[0]!.multipliers.map(({ versusFullRank }) => reach(versusFullRank!)),
      ...results.files[1]!.ranks[0]!.multipliers.map(({ versusBase }) => reach(versusBase)),
    ];
    expect(widestHalfWidth(measured)).toBeCloseTo(Math.max(...reaches) / results.base.meanLoss, 10);
  });

  test("one image gives no width", () => {
    const one = { ...measured, samples: samples.map((sample) => ({ ...sample, image: "a" })) };
    expect(widestHalfWidth(one)).toBe(Number.POSITIVE_INFINITY);
  });
});
