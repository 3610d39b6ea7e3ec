import { expect, test } from "vitest";
import { memoryTerminal } from "../../test/helpers/memory-terminal.js";
import type { CompareReport } from "../surgery/compare/compare.js";
import { compareText } from "./compare-output.js";

const FIGURES = { norms: [2, 3], relativeDifference: 1.8, columnOverlap: 0.25, rowOverlap: null } as const;

function reportOf(cosine: number | null): CompareReport {
  const file = { path: "x.safetensors", maxRank: 4, moduleCount: 1 };
  const module = { name: "lora_unet_conv_in", component: "unet", kind: "linear", ranks: [4, 2] } as const;
  return {
    a: file,
    b: file,
    modules: [{ ...module, ...FIGURES, cosine, columnAngles: [60], rowAngles: [] }],
    totals: [{ component: "all", modules: 1, ...FIGURES, cosine }],
    onlyInA: [],
    onlyInB: [],
    differentShapes: [],
  };
}

test.each([
  [-0.00001, "0.0000"],
  [-0.0001, "-0.0001"],
  [0.99999, "1.0000"],
  [null, "-"],
])("cosine %s is shown as %s", (cosine, shown) => {
  const { stdout } = memoryTerminal();
  const rows = compareText(reportOf(cosine), false, stdout)
    .split("\n")
    .map((line) => line.trim().split(/\s{2,}/));
  expect(rows).toContainEqual(["all", "1", "2", "3", "180.0 %", shown, "0.250", "-"]);
  expect(rows).toContainEqual(["lora_unet_conv_in", "4, 2", "2", "3", "180.0 %", shown, "0.250", "-"]);
});
