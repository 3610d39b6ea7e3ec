import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type BudgetModule, ranksForSize } from "./size-budget.js";

const HEADER_BYTES = 100;

/** A file whose header grows with the digits of the ranks, as a real one does. */
const sizeOf = (modules: readonly BudgetModule[]) => (ranks: readonly number[]) =>
  ranks.reduce((sum, rank, i) => sum + rank * modules[i]!.bytesPerRank + String(rank).length, HEADER_BYTES);

const module = (bytesPerRank: number, ...values: number[]): BudgetModule => ({
  bytesPerRank,
  singularValues: Float64Array.from(values),
  maxRank: values.length,
});

const energyOf = (modules: readonly BudgetModule[], ranks: readonly number[]) =>
  modules.reduce(
    (sum, { singularValues }, i) =>
      sum + singularValues.subarray(0, ranks[i]).reduce((energy, value) => energy + value ** 2, 0),
    0,
  );

describe("energy per byte decides", () => {
  const modules = [module(10, 5, 4, 3), module(10, 1, 0.9, 0.8), module(40, 5, 4.5, 4)];
  const at = (bytes: number) => ranksForSize(modules, bytes, sizeOf(modules));
  test.each([
    [163, [1, 1, 1]],
    [172, [1, 1, 1]],
    [173, [2, 1, 1]],
    [183, [3, 1, 1]],
    // 20.25 / 40 comes next and does not fit: the small ones do.
    [193, [3, 2, 1]],
    [223, [3, 1, 2]],
    [10_000, [3, 3, 3]],
  ])("%i bytes: %j", (bytes, ranks) => expect(at(bytes)).toEqual(ranks));

  test("less than rank 1 everywhere is impossible", () => expect(at(162)).toBeNull());
});

test("a maximum rank holds", () => {
  const modules = [{ ...module(10, 5, 4, 3), maxRank: 2 }, module(10, 1, 1, 1)];
  expect(ranksForSize(modules, 10_000, sizeOf(modules))).toEqual([2, 3]);
});

const anyModule = fc
  .tuple(
    fc.integer({ min: 1, max: 50 }),
    fc.array(fc.double({ min: 0, max: 10, noNaN: true }), { minLength: 1, maxLength: 12 }),
  )
  .map(([bytes, values]) => module(bytes, ...values.sort((a, b) => b - a)));

test("the file fits, and nothing that is left out would still fit", () => {
  fc.assert(
    fc.property(
      fc.array(anyModule, { minLength: 1, maxLength: 8 }),
      fc.integer({ min: 0, max: 3000 }),
      (modules, room) => {
        const size = sizeOf(modules);
        const target = size(modules.map(() => 1)) + room;
        const ranks = ranksForSize(modules, target, size)!;
        expect(size(ranks)).toBeLessThanOrEqual(target);
        for (const [i, { maxRank }] of modules.entries()) {
          expect(ranks[i]).toBeGreaterThanOrEqual(1);
          if (ranks[i]! < maxRank) expect(size(ranks.with(i, ranks[i]! + 1))).toBeGreaterThan(target);
        }
      },
    ),
  );
});

test("the energy is within one component of the best", () => {
  fc.assert(
    fc.property(
      fc.array(anyModule, { minLength: 1, maxLength: 3 }),
      fc.integer({ min: 0, max: 400 }),
      (modules, room) => {
        const size = sizeOf(modules);
        const target = size(modules.map(() => 1)) + room;
        const ranks = ranksForSize(modules, target, size)!;
        const best = Math.max(
          ...allRanks(modules)
            .filter((candidate) => size(candidate) <= target)
            .map((candidate) => energyOf(modules, candidate)),
        );
        const largest = Math.max(
          ...modules.flatMap(({ singularValues }) => [...singularValues.subarray(1)]),
          0,
        );
        // Digits of the header are not in the energy per byte: room for two of them.
        expect(energyOf(modules, ranks)).toBeGreaterThanOrEqual(best - 3 * largest ** 2 - 1e-9);
      },
    ),
    { numRuns: 50 },
  );
});

function allRanks(modules: readonly BudgetModule[]): number[][] {
  return modules.reduce<number[][]>(
    (combinations, { maxRank }) =>
      combinations.flatMap((ranks) => Array.from({ length: maxRank }, (_, i) => [...ranks, i + 1])),
    [[]],
  );
}
