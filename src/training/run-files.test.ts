import { join } from "node:path";
import { expect, test } from "vitest";
import { metricsPath, samplePath, statePath, weightsPath } from "./run-files.js";

// The names that sd-scripts' train_network.py gives: tools and users look for them.
test.each([
  [{ kind: "last" } as const, "cat.safetensors", "cat-state"],
  [{ kind: "step", step: 500 } as const, "cat-step00000500.safetensors", "cat-step00000500-state"],
  [{ kind: "epoch", epoch: 5 } as const, "cat-000005.safetensors", "cat-000005-state"],
])("%j", (point, weights, state) => {
  expect(weightsPath("out", "cat", point)).toBe(join("out", weights));
  expect(statePath("out", "cat", point)).toBe(join("out", state));
});

test("pictures are named as sd-scripts names them, with the rank behind", () => {
  const drawnAt = new Date(2026, 10, 3, 1, 45, 9);
  const sample = { prompt: 3, drawnAt, seed: 42 };
  const at = (name: string) => join("out", "sample", name);
  expect(samplePath("out", "cat", { kind: "step", step: 500 }, { ...sample, rank: null })).toBe(
    at("cat_000500_03_20261103014509_42.png"),
  );
  expect(samplePath("out", "cat", { kind: "epoch", epoch: 2 }, { ...sample, rank: 8 })).toBe(
    at("cat_e000002_03_20261103014509_42_rank8.png"),
  );
});

test("metrics lie in the output folder", () => {
  expect(metricsPath("out")).toBe(join("out", "metrics.jsonl"));
});
