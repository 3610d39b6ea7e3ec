import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type BudgetModule, ranksForSize } from "./size-budget.js";

const HEADER_BYTES = 100;

/** A file whose header grows with the digits of the ranks, as a real one does. */
const sizeOf = (modules: readonly BudgetModule[]) => (ranks: readonly number[]) =>
  ranks.reduce((sum, rank, i) => sum + rank * modules[i]!.bytesPerRank + String(rank).length, HEADER_BYTES);

/** A module of which rank 1, 2, … adds this much. */
const module = (bytesPerRank: number, ...gains: number[]): BudgetModule => ({
  bytesPerRank,
  ranks: gains.map((_, i) => i + 1),
  values: gains.map((_, i) => gains.slice(0, i + 1).reduce((a, b) => a + b, 0)),
});

const worth = (modules: readonly BudgetModule[], ranks: readonly number[]) =>
  modules.reduce((sum, { ranks: own, values }, i) => sum + (values[own.indexOf(ranks[i]!)] ?? 0), 0);

const choose = (modules: readonly BudgetModule[], target: number, lowest: "first" | "none" = "first") =>
  ranksForSize(modules, { target, sizeOf: sizeOf(modules), lowest });

describe("worth per byte decides", () => {
  const modules = [module(10, 25, 16, 9), module(10, 1, 0.81, 0.64), module(40, 25, 20.25, 16)];
  test.each([
    [163, [1, 1, 1]],
    [172, [1, 1, 1]],
    [173, [2, 1, 1]],
    [183, [3, 1, 1]],
    // 20.25 / 40 comes next and does not fit: the small ones do.
    [193, [3, 2, 1]],
    [223, [3, 1, 2]],
    [10_000, [3, 3, 3]],
  ])("%i bytes: %j", (bytes, ranks) => expect(choose(modules, bytes)).toEqual(ranks));

  test("less than rank 1 everywhere is impossible", () => expect(choose(modules, 162)).toBeNull());

  test.each([
    [102, null],
    [103, [0, 0, 0]],
    [113, [1, 0, 0]],
    [153, [3, 2, 0]],
    [163, [3, 3, 0]],
    [173, [3, 0, 1]],
  ])("modules may be left out: %i bytes: %j", (bytes, ranks) =>
    expect(choose(modules, bytes, "none")).toEqual(ranks),
  );
});

describe("values of any form", () => {
  test("a step of little worth is taken on the way to one of much", () => {
    const modules = [module(10, 1, 0, 0, 30), module(10, 5, 5, 5, 5)];
    expect(choose(modules, 150, "none")).toEqual([4, 0]);
    // The whole of the first does not fit: its first rank is worth less than the other's.
    expect(choose(modules, 132, "none")).toEqual([0, 3]);
  });

  test("what adds nothing is never taken", () => {
    const modules = [module(10, 5, 0, 0), module(10, 5, 0, 1, 0), module(10, 0, 0)];
    expect(choose(modules, 10_000, "none")).toEqual([1, 3, 0]);
    expect(choose(modules, 10_000, "first")).toEqual([1, 3, 1]);
  });

  test("what is said to take something back is taken for the size, the least of it first", () => {
    const modules = [module(10, 5, -2, -1), module(10, 5, -1, -3), module(10, 5, 0, 0)];
    // 133 bytes are what is worth something.
    expect(choose(modules, 135)).toEqual([1, 1, 1]);
    expect(choose(modules, 143)).toEqual([1, 2, 1]);
    expect(choose(modules, 163)).toEqual([3, 2, 1]);
    expect(choose(modules, 10_000)).toEqual([3, 3, 1]);
    // Within 2 % nothing is given away.
    const heavy = [module(1000, 5), module(20, 5, -1)];
    expect(choose(heavy, 1142)).toEqual([1, 1]);
    expect(choose(heavy, 1150)).toEqual([1, 2]);
  });

  test("only the ranks that a module can have", () => {
    const modules: BudgetModule[] = [
      { ranks: [4, 8, 10], values: [4, 7, 9], bytesPerRank: 10 },
      { ranks: [4], values: [1], bytesPerRank: 10 },
    ];
    expect([142, 181, 182, 202, 203, 500].map((bytes) => choose(modules, bytes, "none"))).toEqual([
      [4, 0],
      [4, 0],
      [8, 0],
      [8, 0],
      [10, 0],
      [10, 4],
    ]);
  });
});

const moduleOfGains = (min: number) =>
  fc
    .tuple(
      fc.integer({ min: 1, max: 50 }),
      fc.array(fc.double({ min, max: 10, noNaN: true }), { minLength: 1, maxLength: 8 }),
    )
    .map(([bytes, gains]) => module(bytes, ...gains));

const anyModule = moduleOfGains(-2);

test("the file fits, and nothing that is left out is worth more and would still fit", () => {
  fc.assert(
    fc.property(
      fc.array(anyModule, { minLength: 1, maxLength: 8 }),
      fc.integer({ min: 0, max: 3000 }),
      fc.constantFrom("first" as const, "none" as const),
      (modules, room, lowest) => {
        const size = sizeOf(modules);
        const target = size(modules.map(() => (lowest === "first" ? 1 : 0))) + room;
        const ranks = choose(modules, target, lowest)!;
        expect(size(ranks)).toBeLessThanOrEqual(target);
        for (const [i, { ranks: own }] of modules.entries()) {
          if (lowest === "first") expect(ranks[i]).toBeGreaterThanOrEqual(1);
          for (const rank of own.filter((candidate) => candidate > ranks[i]!)) {
            const other = ranks.with(i, rank);
            if (worth(modules, other) > worth(modules, ranks)) {
              expect(size(other)).toBeGreaterThan(target);
            }
          }
        }
      },
    ),
  );
});

test("the worth is within one piece of the best", () => {
  fc.assert(
    fc.property(
      // Losses are taken for the size alone.
      fc.array(moduleOfGains(0), { minLength: 1, maxLength: 3 }),
      fc.integer({ min: 0, max: 400 }),
      (modules, room) => {
        const size = sizeOf(modules);
        const target = size(modules.map(() => 0)) + room;
        const ranks = choose(modules, target, "none")!;
        const best = Math.max(
          ...allRanks(modules)
            .filter((candidate) => size(candidate) <= target)
            .map((candidate) => worth(modules, candidate)),
        );
        const largest = Math.max(...modules.map(({ values }) => Math.max(0, ...Array.from(values))));
        // Digits of the header are not in the worth per byte: room for one more piece.
        expect(worth(modules, ranks)).toBeGreaterThanOrEqual(best - 2 * largest - 1e-9);
      },
    ),
    { numRuns: 50 },
  );
});

function allRanks(modules: readonly BudgetModule[]): number[][] {
  return modules.reduce<number[][]>(
    (combinations, { ranks: own }) =>
      combinations.flatMap((ranks) => [0, ...own].map((rank) => [...ranks, rank])),
    [[]],
  );
}
