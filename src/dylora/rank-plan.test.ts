import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DyloraError } from "../errors.js";
import { randomStream } from "../random/stream.js";
import {
  activeScale,
  checkConvRank,
  createRankPlan,
  drawRank,
  fixedRankPlan,
  moduleRank,
  multiplesOfUnit,
  type RankPlan,
  updatedComponents,
} from "./rank-plan.js";

function thrown(action: () => unknown): DyloraError {
  try {
    action();
  } catch (error) {
    if (error instanceof DyloraError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

const planOf = fc
  .record({
    unit: fc.integer({ min: 1, max: 8 }),
    blocks: fc.integer({ min: 1, max: 16 }),
    frozen: fc.boolean(),
  })
  .map(({ unit, blocks, frozen }) =>
    createRankPlan({ maxRank: unit * blocks, unit, updateMode: frozen ? "frozen" : "full" }),
  );

describe("createRankPlan", () => {
  it("trains every multiple of the unit, each equally often", () => {
    const plan = createRankPlan({ maxRank: 16, unit: 4 });
    expect(plan.ranks).toEqual([4, 8, 12, 16]);
    expect(plan.probabilities).toEqual([0.25, 0.25, 0.25, 0.25]);
    expect(plan.updateMode).toBe("full");
    expect(plan.rankDraw).toBe("step");
    expect(multiplesOfUnit(3, 1)).toEqual([1, 2, 3]);
  });

  it("geometric: each rank (1 - p) times as often as the next smaller one, adding up to 1", () => {
    const { probabilities } = createRankPlan({
      maxRank: 4,
      weighting: { kind: "geometric", p: 0.5 },
    });
    // Weights 1, 1/2, 1/4, 1/8; their sum is 15/8.
    expect(probabilities).toEqual([8 / 15, 4 / 15, 2 / 15, 1 / 15]);
    for (const p of [0, 1, -0.1, Number.NaN]) {
      expect(thrown(() => createRankPlan({ maxRank: 4, weighting: { kind: "geometric", p } })).code).toBe(
        "E_CONFIG",
      );
    }
  });

  it("takes a list of ranks in any order", () => {
    expect(createRankPlan({ maxRank: 16, unit: 4, ranks: [16, 4, 8, 4] }).ranks).toEqual([4, 8, 16]);
  });

  it.each([
    [{ maxRank: 10, unit: 4 }, "maximum rank 10 is not a multiple of unit 4", "--network_dim 8 or 12"],
    [{ maxRank: 2, unit: 4 }, "maximum rank 2 is not a multiple of unit 4", "--network_dim 4"],
    [{ maxRank: 0 }, "whole number from 1, got 0", ""],
    [{ maxRank: 4, unit: 1.5 }, "the unit must be a whole number from 1, got 1.5", ""],
    [{ maxRank: 16, unit: 4, ranks: [6, 16] }, "ranks: 6 is not a multiple of unit 4", "smaller unit"],
    [
      { maxRank: 16, unit: 4, ranks: [16, 32] },
      "ranks: 32 is above the maximum rank 16",
      "--network_dim to 32",
    ],
    [
      { maxRank: 16, unit: 4, ranks: [4, 8] },
      "the largest, 8, is below the maximum rank 16",
      "add 16 to ranks",
    ],
    [{ maxRank: 16, ranks: [] }, "ranks: the list is empty", ""],
  ])("refuses %j", (options, message, note) => {
    const error = thrown(() => createRankPlan(options));
    expect(error.code).toBe("E_RANK");
    expect(error.message).toContain(message);
    expect(error.note ?? "").toContain(note);
  });
});

describe("drawRank", () => {
  it("draws each rank as often as the plan says", () => {
    const plan = createRankPlan({ maxRank: 16, unit: 4, weighting: { kind: "geometric", p: 0.3 } });
    const counts = new Map<number, number>();
    const n = 40_000;
    for (let step = 0; step < n; step++) {
      const rank = drawRank(plan, randomStream(3, "rank", step));
      counts.set(rank, (counts.get(rank) ?? 0) + 1);
    }
    expect([...counts.keys()].sort((a, b) => a - b)).toEqual([4, 8, 12, 16]);
    // Chi-square with 3 degrees of freedom: 21.1 is exceeded once in 10,000.
    const chiSquare = plan.ranks.reduce((sum, rank, k) => {
      const expected = n * plan.probabilities[k]!;
      return sum + (counts.get(rank)! - expected) ** 2 / expected;
    }, 0);
    expect(chiSquare).toBeLessThan(21.1);
  });

  it("draws the one rank of an ordinary LoRA", () => {
    expect(drawRank(fixedRankPlan(6), randomStream(1, "rank"))).toBe(6);
  });
});

describe("moduleRank", () => {
  it("cuts a module to min(b, its own maximum), as extraction does", () => {
    const plan = createRankPlan({ maxRank: 16, unit: 4 });
    expect(plan.ranks.map((b) => moduleRank(plan, 8, b))).toEqual([4, 8, 8, 8]);
    expect(plan.ranks.map((b) => moduleRank(plan, 16, b))).toEqual([4, 8, 12, 16]);
  });

  it("leaves every module of an ordinary LoRA whole", () => {
    const plan = fixedRankPlan(8);
    expect(moduleRank(plan, 8, 8)).toBe(8);
    expect(moduleRank(plan, 32, 8)).toBe(32);
    expect(updatedComponents(plan, 32, 8)).toEqual({ begin: 0, end: 32 });
  });
});

describe("updatedComponents", () => {
  const updates = (plan: RankPlan, moduleMaxRank: number) =>
    plan.ranks.map((b) => {
      const { begin, end } = updatedComponents(plan, moduleMaxRank, b);
      return [begin, end];
    });

  it("full: all active components; frozen: the last block only", () => {
    const options = { maxRank: 12, unit: 4 };
    expect(updates(createRankPlan({ ...options, updateMode: "full" }), 12)).toEqual([
      [0, 4],
      [0, 8],
      [0, 12],
    ]);
    expect(updates(createRankPlan({ ...options, updateMode: "frozen" }), 12)).toEqual([
      [0, 4],
      [4, 8],
      [8, 12],
    ]);
  });

  it("frozen with a list: every component learns in exactly one of the ranks", () => {
    const plan = createRankPlan({ maxRank: 16, unit: 2, ranks: [4, 6, 16], updateMode: "frozen" });
    expect(updates(plan, 16)).toEqual([
      [0, 4],
      [4, 6],
      [6, 16],
    ]);
    // A convolution of rank 6 learns in its own last block when it is whole.
    expect(updates(plan, 6)).toEqual([
      [0, 4],
      [4, 6],
      [4, 6],
    ]);
  });

  it("covers every component of every module over all draws, and never one that is cut away", () => {
    fc.assert(
      fc.property(planOf, fc.nat(), (plan, pick) => {
        const moduleMaxRank = plan.ranks[pick % plan.ranks.length]!;
        const learned = new Set<number>();
        for (const b of plan.ranks) {
          const { begin, end } = updatedComponents(plan, moduleMaxRank, b);
          expect(end).toBe(Math.min(b, moduleMaxRank));
          for (let component = begin; component < end; component++) learned.add(component);
        }
        expect(learned.size).toBe(moduleMaxRank);
      }),
    );
  });
});

describe("activeScale", () => {
  it("is alpha / b", () => {
    expect(activeScale(8, 4)).toBe(2);
    expect(activeScale(1, 16)).toBe(1 / 16);
  });
});

describe("checkConvRank", () => {
  const plan = createRankPlan({ maxRank: 16, unit: 4 });

  it("accepts a smaller multiple of the unit, and anything for an ordinary LoRA", () => {
    expect(() => checkConvRank(plan, 8)).not.toThrow();
    expect(() => checkConvRank(plan, 16)).not.toThrow();
    expect(() => checkConvRank(fixedRankPlan(4), 9)).not.toThrow();
  });

  it.each([
    [20, "conv_dim 20 is above the maximum rank 16"],
    [6, "conv_dim 6 is not a multiple of unit 4"],
    [0, "conv_dim must be a whole number from 1, got 0"],
  ])("refuses %d", (convRank, message) => {
    const error = thrown(() => checkConvRank(plan, convRank));
    expect(error.code).toBe("E_RANK");
    expect(error.message).toContain(message);
  });
});
