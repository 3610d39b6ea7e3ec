import { join } from "node:path";
import { expect, test } from "vitest";
import { metricsPath, statePath, weightsPath } from "./run-files.js";

// The names that sd-scripts' train_network.py gives: tools and users look for them.
test.each([
  [{ kind: "last" } as const, "cat.safetensors", "cat-state"],
  [{ kind: "step", step: 500 } as const, "cat-step00000500.safetensors", "cat-step00000500-state"],
  [{ kind: "epoch", epoch: 5 } as const, "cat-000005.safetensors", "cat-000005-state"],
])("%j", (point, weights, state) => {
  expect(weightsPath("out", "cat", point)).toBe(join("out", weights));
  expect(statePath("out", "cat", point)).toBe(join("out", state));
});

test("metrics lie in the output folder", () => {
  expect(metricsPath("out")).toBe(join("out", "metrics.jsonl"));
});
