import { describe, expect, it } from "vitest";
import { DyloraError } from "../errors.js";
import { type RandomStream, randomStream } from "../random/stream.js";
import { type BootstrapOptions, PairedComparison, recommendRank } from "./statistics.js";

/** Draws with mean 0 and variance 1, of the shapes that differences of losses have. */
const SHAPES: Record<string, (random: RandomStream) => number> = {
  normal: (random) => random.normal(),
  skewed: (random) => -Math.log(1 - random.uniform()) - 1,
  // Student's t with 4 degrees of freedom has variance 2.
  "heavy-tailed": (random) => {
    const chiSquare = [0, 0, 0, 0].reduce((sum) => sum + random.normal() ** 2, 0);
    return random.normal() / Math.sqrt(chiSquare / 4) / Math.SQRT2;
  },
};

const TRUE_DIFFERENCE = 0.3;
const TRIALS = 1000;

const pairedDifference = (
  losses: readonly number[],
  reference: readonly number[],
  images: readonly (string | number)[],
  options?: BootstrapOptions,
) => new PairedComparison(images, options).difference(losses, reference);

/** Share of trials whose 95 % interval covers the true difference. */
function coverage(imageCount: number, samplesPerImage: number, shape: string): number {
  const images = Array.from({ length: imageCount * samplesPerImage }, (_, i) => i % imageCount);
  const comparison = new PairedComparison(images, { resamples: imageCount < 100 ? 1999 : 999 });
  let covered = 0;
  for (let trial = 0; trial < TRIALS; trial++) {
    const random = randomStream(11, "trial", imageCount, shape, trial);
    // An effect of the image, larger than that of the noise: samples of one image hang together.
    const effects = Array.from({ length: imageCount }, () => SHAPES[shape]!(random));
    const reference = images.map(() => 5 + 3 * random.normal());
    const losses = images.map(
      (image, i) => reference[i]! + TRUE_DIFFERENCE + effects[image]! + 0.5 * random.normal(),
    );
    const { ciLow, ciHigh } = comparison.difference(losses, reference);
    if (ciLow <= TRUE_DIFFERENCE && TRUE_DIFFERENCE <= ciHigh) covered++;
  }
  return covered / TRIALS;
}

describe("PairedComparison", () => {
  it.each([
    [12, 3, "normal"],
    [40, 2, "normal"],
    [200, 1, "normal"],
    [12, 3, "skewed"],
    [40, 2, "skewed"],
    [12, 3, "heavy-tailed"],
    [40, 2, "heavy-tailed"],
  ])("covers a known difference in 93 to 97 of 100 trials: %d images, %d samples each, %s", (...setting) => {
    const share = coverage(...setting);
    expect(share).toBeGreaterThanOrEqual(0.93);
    expect(share).toBeLessThanOrEqual(0.97);
  });

  it("takes the samples of an image as one observation", () => {
    // Ten images, each measured once, or five times with the very same result: nothing is learnt from the repetition.
    const random = randomStream(1, "images");
    const losses = Array.from({ length: 10 }, () => random.normal());
    const zeros = losses.map(() => 0);
    const images = losses.map((_, i) => `image ${i}`);
    const once = pairedDifference(losses, zeros, images);
    const repeat = <T>(items: T[]) => [items, items, items, items, items].flat();
    const repeated = pairedDifference(repeat(losses), repeat(zeros), repeat(images));
    expect(repeated.mean).toBeCloseTo(once.mean, 14);
    expect(repeated.ciLow).toBeCloseTo(once.ciLow, 14);
    expect(repeated.ciHigh).toBeCloseTo(once.ciHigh, 14);
  });

  it("pairs: what is common to both sides cancels", () => {
    const random = randomStream(2, "pairs");
    const reference = Array.from({ length: 20 }, () => 100 * random.normal());
    const losses = reference.map((loss, i) => loss + 1 + 0.01 * Math.sin(i));
    const { mean, ciLow, ciHigh } = pairedDifference(losses, reference, [...reference.keys()]);
    expect(mean).toBeCloseTo(1, 1);
    expect(ciHigh - ciLow).toBeLessThan(0.02);
  });

  it("is symmetric around the mean, and mirrored when the sides change places", () => {
    const random = randomStream(3, "sides");
    const [a, b] = [0, 1].map(() => Array.from({ length: 15 }, () => random.uniform())) as [
      number[],
      number[],
    ];
    const images = [...a.keys()];
    const difference = pairedDifference(a, b, images);
    const mirrored = pairedDifference(b, a, images);
    expect(difference.ciHigh - difference.mean).toBeCloseTo(difference.mean - difference.ciLow, 14);
    expect([mirrored.mean, mirrored.ciLow, mirrored.ciHigh].map((x) => -x)).toEqual([
      difference.mean,
      difference.ciHigh,
      difference.ciLow,
    ]);
  });

  it("repeats for a seed, and hardly depends on it", () => {
    const random = randomStream(4, "seeds");
    const losses = Array.from({ length: 24 }, () => random.normal());
    const run = (seed: number) =>
      pairedDifference(
        losses,
        losses.map(() => 0),
        [...losses.keys()],
        { seed },
      );
    expect(run(1)).toEqual(run(1));
    const width = run(1).ciHigh - run(1).ciLow;
    expect(Math.abs(run(2).ciHigh - run(1).ciHigh)).toBeLessThan(0.02 * width);
  });

  it("widens with the confidence asked for", () => {
    const losses = Array.from({ length: 30 }, (_, i) => Math.sin(i));
    const width = (confidence: number) => {
      const { ciLow, ciHigh } = pairedDifference(
        losses,
        losses.map(() => 0),
        [...losses.keys()],
        { confidence },
      );
      return ciHigh - ciLow;
    };
    expect(width(0.99)).toBeGreaterThan(width(0.95));
    expect(width(0.95)).toBeGreaterThan(width(0.8));
  });

  it("claims nothing from fewer than 4 images, and no doubt where nothing differs", () => {
    for (const losses of [[0.5], [0.5, 0.6], [0.5, 0.6, 0.8]]) {
      const { ciLow, ciHigh } = pairedDifference(
        losses,
        losses.map(() => 0),
        [...losses.keys()],
      );
      expect([ciLow, ciHigh]).toEqual([Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY]);
    }
    const four = pairedDifference([1, 2, 3, 4], [0, 0, 0, 0], [0, 1, 2, 3]);
    expect(Number.isFinite(four.ciLow)).toBe(true);
    expect(pairedDifference([1, 2, 3], [1, 2, 3], [0, 1, 2])).toEqual({ mean: 0, ciLow: 0, ciHigh: 0 });
  });

  it("counts every image once, however many samples it has", () => {
    const images = ["a", "a", "a", "b"];
    expect(new PairedComparison(images).mean([1, 1, 1, 5])).toBe(3);
    expect(pairedDifference([1, 1, 1, 5], [0, 0, 0, 0], images).mean).toBe(3);
  });

  it("refuses samples that do not match", () => {
    expect(() => pairedDifference([1, 2], [1], [0, 1])).toThrow(DyloraError);
    expect(() => pairedDifference([1, 2], [1, 2], [0])).toThrow(DyloraError);
    expect(() => pairedDifference([], [], [])).toThrow(DyloraError);
  });
});

describe("recommendRank", () => {
  const images = Array.from({ length: 40 }, (_, i) => i % 20);
  const comparison = new PairedComparison(images);
  /** Losses that differ from a common course by `offset`, give or take `spread` per sample. */
  const at = (rank: number, offset: number, spread = 0.002) => {
    const random = randomStream(5, "rank", rank);
    return {
      rank,
      losses: images.map((_, i) => 0.2 + 0.1 * Math.sin(i) + offset + spread * random.normal()),
    };
  };

  it("takes the smallest rank that is not shown to be worse than the best", () => {
    const ranks = [at(16, 0), at(4, 0.01), at(12, 0.0001), at(8, 0.0002)];
    const { rank, bestRank, reason } = recommendRank(comparison, ranks);
    expect(rank).toBe(8);
    expect([12, 16]).toContain(bestRank);
    expect(reason).toMatch(
      /^Rank 8 is not shown to be worse than the best, rank \d+: [+-]\S+ \[-\S+, \+\S+\], and rank 4 is worse than it: \+0\.0\S+ \[\+\S+, \+\S+\] \(20 images\)\.$/,
    );
  });

  it("takes the best itself where every smaller rank is worse", () => {
    const { rank, bestRank, reason } = recommendRank(comparison, [at(4, 0.02), at(8, 0.01), at(16, 0)]);
    expect([rank, bestRank]).toEqual([16, 16]);
    expect(reason).toMatch(/^Rank 16 has the lowest loss, and rank 8 is worse than it: /);
  });

  it("takes the smallest of all where it is the best, or nothing can be told", () => {
    expect(recommendRank(comparison, [at(4, 0), at(8, 0.01)])).toMatchObject({
      rank: 4,
      reason: "Rank 4 has the lowest loss (20 images).",
    });
    const oneImage = recommendRank(new PairedComparison(images.map(() => 0)), [at(4, 0.01), at(8, 0)]);
    expect(oneImage.rank).toBe(4);
    expect(oneImage.reason).toContain("[-infinite, +infinite] (1 image).");
  });

  it("says when no rank beats the base model", () => {
    const ranks = [at(4, 0), at(8, 0.0001)];
    expect(recommendRank(comparison, ranks, at(0, 0.02).losses).reason).not.toContain("base model");
    expect(recommendRank(comparison, ranks, at(0, 0).losses).reason).toContain(
      "no rank is shown to be better than the base model",
    );
    expect(recommendRank(comparison, ranks, at(0, -0.02).losses).reason).toContain("base model");
  });

  it("needs a rank", () => {
    expect(() => recommendRank(comparison, [])).toThrow(DyloraError);
  });
});
