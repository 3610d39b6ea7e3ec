import { describe, expect, it } from "vitest";
import { DyloraError } from "../errors.js";
import { randomStream } from "../random/stream.js";
import { recommend } from "./recommend.js";
import { PairedComparison } from "./statistics.js";

const images = Array.from({ length: 80 }, (_, i) => i % 20);
const comparison = new PairedComparison(images);

/** Losses that differ from a common course by `offset`, give or take `spread` per sample. */
function at(rank: number, offset: number, spread = 0.002, name = `rank ${rank}`) {
  const random = randomStream(5, "rank", name);
  const losses = images.map((_, i) => 0.2 + 0.1 * Math.sin(i) + offset + spread * random.normal());
  return { size: rank, name, losses };
}

/** The best gains 0.1 on it: 5 % are 0.005. */
const base = at(0, 0.1).losses;
const choose = (candidates: Parameters<typeof recommend>[1], tolerance = 0.05, from = base) =>
  recommend(comparison, candidates, from, tolerance);

describe("recommend", () => {
  it("takes the smallest that is shown to lose at most the tolerance of the best one's gain", () => {
    const { chosen, best, reason } = choose([at(16, 0), at(4, 0.009), at(12, 0.001), at(8, 0.003)]);
    expect(chosen.size).toBe(8);
    expect(best.size).toBe(16);
    expect(reason).toMatch(
      /^Rank 8 is the smallest that is shown to lose at most 5 % of what the best, rank 16, gains on the base model: \+0\.00\d+ \[\+0\.00\d+, \+0\.00\d+\] of 0\.1; rank 4 may lose more: \+0\.0\d+ \[.*\] \(20 images\)\.$/,
    );
  });

  it("asks for proof: a rank whose interval reaches beyond the tolerance is not taken, though its mean does not", () => {
    const vague = at(8, 0.003, 0.03);
    const { mean, ciHigh } = comparison.difference(vague.losses, at(16, 0).losses);
    expect(mean).toBeLessThan(0.005);
    expect(ciHigh).toBeGreaterThan(0.006);
    expect(choose([vague, at(16, 0)]).chosen.size).toBe(16);
  });

  it("widens with the tolerance, and takes nothing but the best with none", () => {
    const ranks = [at(4, 0.03), at(8, 0.01), at(16, 0)];
    expect([0, 0.05, 0.15, 0.4].map((tolerance) => choose(ranks, tolerance).chosen.size)).toEqual([
      16, 16, 8, 4,
    ]);
  });

  it("takes the best itself where every smaller one loses too much, and says so", () => {
    const { chosen, reason } = choose([at(4, 0.04), at(8, 0.02), at(16, 0)]);
    expect(chosen.size).toBe(16);
    expect(reason).toMatch(
      /^Rank 16 has the lowest loss, 0\.1 below the base model's; rank 8 may lose more than 5 % of that gain: \+0\.0/,
    );
  });

  it("needs no reason to reject anything where the smallest is the best", () => {
    expect(choose([at(4, 0), at(8, 0.01)]).reason).toBe(
      "Rank 4 has the lowest loss, 0.1 below the base model's (20 images).",
    );
  });

  it("of one size takes the best strength that is good enough", () => {
    const choice = choose([at(8, 0.02, 0.002, "a"), at(8, 0.001, 0.002, "b"), at(16, 0)]);
    expect(choice.chosen.name).toBe("b");
  });

  it("of equal losses takes the smaller", () => {
    const { losses } = at(8, 0);
    const { chosen, best } = choose([
      { size: 16, name: "large", losses },
      { size: 4, name: "small", losses },
    ]);
    expect([chosen.name, best.name]).toEqual(["small", "small"]);
  });

  it("takes the best where one image proves nothing", () => {
    const oneImage = new PairedComparison(images.map(() => 0));
    const { chosen, reason } = recommend(oneImage, [at(4, 0.001), at(8, 0)], base, 0.05);
    expect(chosen.size).toBe(8);
    expect(reason).toContain("[-infinite, +infinite]");
    expect(reason).toContain("nothing is shown to be better than the base model");
    expect(reason).toContain("(1 image).");
  });

  it("says where nothing beats the base model, or is worse than it", () => {
    const ranks = [at(4, 0), at(8, 0.0001)];
    expect(choose(ranks).reason).not.toContain("nothing is shown");
    expect(choose(ranks, 0.05, at(0, 0).losses).reason).toContain("nothing is shown to be better");
    const worse = choose(ranks, 0.05, at(0, -0.02).losses);
    expect(worse.chosen).toBe(worse.best);
    expect(worse.reason).toMatch(/^Rank \d has the lowest loss, 0\.02 above the base model's/);
    expect(worse.reason).toContain("nothing is shown to be better");
  });

  it("needs a candidate", () => {
    expect(() => choose([])).toThrow(DyloraError);
  });
});
