import { expect, test } from "vitest";
import { nearestName, nearestOption } from "./nearest-name.js";
import type { OptionTable } from "./option-spec.js";

const table = {
  network_dim: { type: "integer", default: 4, group: "g", description: "d", alsoCalled: ["rank"] },
  network_args: { type: "list", default: [], group: "g", description: "d" },
} as const satisfies OptionTable;

test.each([
  ["network_dimm", "network_dim"],
  ["network-dim", "network_dim"],
  ["Network_Arg", "network_args"],
  ["networkdim", "network_dim"],
  ["completely_different", null],
  ["x", null],
])("%s -> %s", (name, expected) => {
  expect(nearestName(name, Object.keys(table))).toBe(expected);
});

test("another trainer's word leads to the option, and so does a slip in that word", () => {
  expect(nearestOption("rank", table)).toBe("network_dim");
  expect(nearestOption("ranks", table)).toBe("network_dim");
});

test("names that are no options of the table can be suggested too", () => {
  expect(nearestOption("jsn", table, ["json"])).toBe("json");
});
