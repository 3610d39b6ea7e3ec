import { expect, test } from "vitest";
import type { BenchAdapter } from "./bench-adapter.js";
import type { MeasuredBench } from "./bench-report.js";
import { PairedComparison } from "./statistics.js";
import { versusUniform } from "./versus-uniform.js";

const IMAGES = 8;
const losses = (mean: number) => Float64Array.from({ length: IMAGES }, (_, i) => mean + 0.001 * Math.sin(i));

const adapter = (isDylora: boolean, ranks: readonly number[], sizes: readonly number[]): BenchAdapter => ({
  ...{ path: "", isDylora, isMixed: !isDylora, dialect: "kohya", maxRank: ranks.at(-1)!, ranks },
  loaded: undefined as unknown as BenchAdapter["loaded"],
  fileSizeBytes: (rank) => sizes[ranks.indexOf(rank)]!,
  key: () => "",
});

/** A DyLoRA of 400 bytes a rank beside a file of mixed ranks; at strength 0.5 everything is worse. */
function measured(mixedBytes: number, mixedLoss: number): MeasuredBench {
  const variants = [0.5, 1].flatMap((multiplier) => {
    const at = (file: number, rank: number, mean: number) => ({
      ...{ file, rank, multiplier, seconds: [] },
      losses: losses(mean + (multiplier === 1 ? 0 : 1) * (file + 1)),
    });
    return [at(0, 4, 0.6), at(0, 8, 0.5), at(0, 16, 0.55), at(1, 16, mixedLoss)];
  });
  return {
    samples: Array.from({ length: IMAGES }, (_, i) => ({ image: `${i}`, draw: 0 })),
    base: { losses: losses(1), seconds: [] },
    adapters: [adapter(true, [4, 8, 16], [1600, 3200, 6400]), adapter(false, [16], [mixedBytes])],
    names: ["cat", "mixed"],
    variants,
    multipliers: [0.5, 1],
    tolerance: 0.05,
    seed: 0,
  };
}

const comparison = new PairedComparison(Array.from({ length: IMAGES }, (_, i) => i));
const compare = (bytes: number, loss: number) => versusUniform(1, measured(bytes, loss), comparison);

test("beside the largest rank in the same size, at strength 1", () => {
  const found = compare(3250, 0.48)!;
  expect(found).toMatchObject({ file: 0, rank: 8, fileSizeBytes: 3200 });
  expect(found.difference.mean).toBeCloseTo(-0.02, 10);
  expect(found.sentence).toMatch(
    /^The mix of ranks is better than rank 8 everywhere \(cat\), which takes 98 % of its size: -0\.02 \[-0\.02, -0\.02\]\.$/,
  );
  expect(compare(3250, 0.52)!.sentence).toContain("worse than rank 8");
  expect(compare(3250, 0.5)!.sentence).toContain("not shown to differ from rank 8");
});

test("2 % more are the same size", () => {
  expect(compare(3140, 0.5)!.rank).toBe(8);
  expect(compare(3100, 0.5)!.rank).toBe(4);
});

test("nothing to compare with", () => {
  expect(compare(1000, 0.5)).toBeNull();
  expect(versusUniform(0, measured(3250, 0.5), comparison)).toBeNull();
});
