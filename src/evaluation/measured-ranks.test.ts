import { describe, expect, test } from "vitest";
import type { DyloraFacts } from "../adapter/index.js";
import { measuredRanks } from "./measured-ranks.js";

const file = (path: string, maxRank: number, facts: Partial<DyloraFacts> = {}) => ({
  path,
  maxRank,
  dylora: {
    ...{ isDylora: false, unit: null, alphaRule: "paper", alphaRuleSource: "assumed" },
    ...{ updateMode: null, trainedRanks: null, problems: [], maxRank },
    ...facts,
  } as DyloraFacts,
});
const dylora = (path: string, maxRank: number, unit: number) => file(path, maxRank, { isDylora: true, unit });

describe("measuredRanks", () => {
  test("every rank that was trained; of many, at most 8, evenly spread, the maximum included", () => {
    expect(measuredRanks(null, [dylora("a", 12, 4)])).toEqual([[4, 8, 12]]);
    expect(measuredRanks(null, [dylora("a", 12, 1)])).toEqual([[2, 4, 6, 8, 10, 12]]);
    expect(measuredRanks(null, [dylora("a", 32, 1)])).toEqual([[4, 8, 12, 16, 20, 24, 28, 32]]);
  });

  test("an ordinary LoRA is measured whole", () => {
    expect(measuredRanks(null, [file("a", 12)])).toEqual([[12]]);
    expect(measuredRanks([4, 8], [dylora("a", 16, 4), file("b", 12)])).toEqual([[4, 8, 16], [12]]);
  });

  test("named ranks are for the files that have them, with each file's maximum; 0 is the base model's", () => {
    expect(measuredRanks([0, 4], [dylora("a", 12, 4)])).toEqual([[4, 12]]);
    expect(measuredRanks([0], [dylora("a", 12, 4)])).toEqual([[12]]);
    expect(measuredRanks([4, 8, 16, 4], [dylora("a", 16, 4), dylora("b", 8, 4), dylora("c", 12, 6)])).toEqual(
      [[4, 8, 16], [4, 8], [12]],
    );
    // A rank that only an ordinary LoRA has.
    expect(measuredRanks([6], [dylora("a", 16, 4), file("b", 6)])).toEqual([[16], [6]]);
  });

  test("where no file says that it is a DyLoRA, named ranks are taken from all", () => {
    expect(measuredRanks([3], [file("a", 8), file("b", 2)])).toEqual([[3, 8], [2]]);
  });

  test.each([
    [16, "rank 16 is above the largest rank"],
    [6, "rank 6 is no multiple of the unit 4"],
  ])("a rank that no file has is refused: %d", (rank, message) => {
    expect(() => measuredRanks([4, rank], [dylora("a", 12, 4), file("b", 8)])).toThrow(
      expect.objectContaining({ code: "E_RANK", message: expect.stringContaining(message) }),
    );
  });
});
