import { expect, it } from "vitest";
import { ALPHA_RULES } from "../../adapter/index.js";
import { extractedAlpha, ruleOfCopy } from "./alpha-rule.js";

const PARENT = { alpha: 8, rank: 16, unit: 4 };

it.each([
  ["paper", 4, 8],
  ["paper", 16, 8],
  ["sd-scripts", 4, 4],
  ["sd-scripts", 8, 8 * Math.SQRT1_2],
  ["sd-scripts", 16, 8],
  ["lycoris", 4, 32],
  ["lycoris", 16, 32],
  ["keep", 4, 2],
  ["keep", 16, 8],
] as const)("%s at rank %i: alpha %f", (rule, rank, alpha) => {
  expect(extractedAlpha(rule, PARENT, rank)).toBeCloseTo(alpha, 14);
});

it.each([
  ["paper", (b: number) => 8 / b],
  ["sd-scripts", (b: number) => (8 / 16) * Math.sqrt(16 / b)],
  ["lycoris", (b: number) => 8 / (b / 4)],
  ["keep", () => 8 / 16],
] as const)("%s: a loader's alpha / rank is the scale that was trained", (rule, trainedScale) => {
  for (const rank of [4, 8, 12, 16]) {
    expect(extractedAlpha(rule, PARENT, rank) / rank).toBeCloseTo(trainedScale(rank), 14);
  }
});

it.each(ALPHA_RULES)("%s: a copy of a copy is a copy of the parent", (rule) => {
  const atOnce = extractedAlpha(rule, PARENT, 4);
  const first = { ...PARENT, alpha: extractedAlpha(rule, PARENT, 8), rank: 8 };
  expect(extractedAlpha(ruleOfCopy(rule), first, 4)).toBeCloseTo(atOnce, 14);
});
