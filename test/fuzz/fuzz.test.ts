/** Damaged files, at random: a small part of what `npm run fuzz` does. Its cases are the same in every run. */
import { join } from "node:path";
import { expect, test } from "vitest";
import { tempFolder } from "../helpers/temp-folder.js";
import { CORPUS } from "./corpus.js";
import { fileBytes } from "./fuzz-file.js";
import type { Mutation } from "./mutate.js";
import { runOperation } from "./operations.js";
import { PEFT_CONFIG, runCases } from "./run-cases.js";

test.each<[Mutation, number]>([
  ["header", 400],
  ["file", 200],
])("%s: no crash, no output of a failure, always an error with a code", async (kind, count) => {
  const report = await runCases(join(await tempFolder(), kind), { kind, first: 0, count });
  expect(report.failures).toEqual([]);
  // The mutations must neither all be harmless nor all be caught by the first check.
  const { inspect } = report.outcomes;
  expect(inspect!.E_FORMAT).toBeGreaterThan(count / 4);
  expect(inspect!.E_INCOMPATIBLE).toBeGreaterThan(0);
  expect(inspect!.ok).toBeGreaterThan(0);
});

test("the files that are mutated are themselves in order", async () => {
  const { writeFile, mkdir } = await import("node:fs/promises");
  const folder = await tempFolder();
  const out = join(folder, "out");
  await mkdir(out);
  const outcomes: Record<string, string> = {};
  for (const file of CORPUS) {
    const path = join(folder, "case.safetensors");
    await writeFile(path, fileBytes(file));
    await writeFile(join(folder, "adapter_config.json"), PEFT_CONFIG);
    outcomes[file.title] = await runOperation("inspect", path, out);
  }
  expect(Object.values(outcomes).filter((outcome) => outcome === "ok")).toHaveLength(CORPUS.length - 1);
  expect(outcomes["no adapter: a piece of a checkpoint"]).toBe("E_INCOMPATIBLE");
});
