import { describe, expect, it } from "vitest";
import { readDyloraFacts } from "../../adapter/index.js";
import { type RankSelection, selectRanks } from "./select-ranks.js";

const PLAIN = readDyloraFacts({}, 16);
const UNIT_4 = readDyloraFacts(
  { ss_network_module: "networks.dylora", ss_network_args: '{"unit": "4"}' },
  16,
);
const LISTED = readDyloraFacts(
  { ss_network_module: "networks.dylora", ss_network_args: '{"unit": "2", "ranks": "2,8,32"}' },
  16,
);
const ODD_MAXIMUM = readDyloraFacts(
  { ss_network_module: "networks.dylora", ss_network_args: '{"unit": "4"}' },
  10,
);

describe("selected", () => {
  it.each([
    ["a list, in order and each once", { ranks: [8, 4, 16, 4] }, UNIT_4, [4, 8, 16]],
    ["any rank of a file without a unit", { ranks: [1, 7] }, PLAIN, [1, 7]],
    ["multiples, the maximum included", { unit: 8 }, UNIT_4, [8, 16]],
    ["multiples, and a maximum that is none", { unit: 6 }, PLAIN, [6, 12, 16]],
    ["all of a DyLoRA", { all: true }, UNIT_4, [4, 8, 12, 16]],
    ["all of a file without a unit", { all: true }, readDyloraFacts({}, 3), [1, 2, 3]],
    ["all that were trained, and the maximum", { all: true }, LISTED, [2, 8, 16]],
    ["all, where the maximum is no multiple", { all: true }, ODD_MAXIMUM, [4, 8, 10]],
    ["a maximum that is no multiple", { ranks: [10] }, ODD_MAXIMUM, [10]],
  ] as const)("%s", (_, selection, facts, ranks) => {
    expect(selectRanks(selection as RankSelection, facts, "extract x")).toEqual(ranks);
  });
});

describe("refused", () => {
  it.each([
    ["no ranks", { ranks: [] }, UNIT_4, "extract x: no ranks were given"],
    ["above the maximum", { ranks: [4, 20] }, UNIT_4, "extract x: rank 20 is above the largest rank, 16"],
    ["no multiple", { ranks: [6] }, UNIT_4, "extract x: rank 6 is no multiple of the unit 4"],
    ["zero", { ranks: [0] }, PLAIN, "rank 0 is no whole number of 1 or more"],
    ["negative", { ranks: [-4] }, PLAIN, "rank -4 is no whole number"],
    ["a fraction", { ranks: [2.5] }, PLAIN, "rank 2.5 is no whole number"],
    ["not a number", { ranks: [Number.NaN] }, PLAIN, "rank NaN is no whole number"],
    ["unit zero", { unit: 0 }, PLAIN, "unit 0 is no whole number"],
    ["a unit above the maximum", { unit: 17 }, PLAIN, "unit 17 is above the largest rank, 16"],
    ["a unit between the file's ranks", { unit: 6 }, UNIT_4, "unit 6 is no multiple of the file's unit 4"],
  ] as const)("%s", (_, selection, facts, message) => {
    expect(() => selectRanks(selection as RankSelection, facts, "extract x")).toThrow(
      expect.objectContaining({
        code: "E_RANK",
        exitCode: 2,
        message: expect.stringContaining(message),
        note: expect.stringContaining("Nothing was written. Possible ranks: "),
      }),
    );
  });

  it("lists the ranks there are", () => {
    expect(() => selectRanks({ ranks: [6] }, UNIT_4, "x")).toThrow(
      expect.objectContaining({ note: "Nothing was written. Possible ranks: 4, 8, 12, 16." }),
    );
    expect(() => selectRanks({ ranks: [200] }, readDyloraFacts({}, 128), "x")).toThrow(
      expect.objectContaining({ note: "Nothing was written. Possible ranks: 1, 2, 3, … 128." }),
    );
  });
});
