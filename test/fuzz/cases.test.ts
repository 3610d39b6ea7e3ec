import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { tempFolder } from "../helpers/temp-folder.js";
import { CASES } from "./cases.js";
import { OPERATIONS, runOperation } from "./operations.js";
import { PEFT_CONFIG } from "./run-cases.js";

const outcomes = new Map<string, readonly string[]>();
let folder: string;

beforeAll(async () => {
  folder = await tempFolder({ "adapter_config.json": PEFT_CONFIG });
  await mkdir(join(folder, "out"));
});

test.each(Object.keys(CASES))("%s", async (title) => {
  const path = join(folder, "case.safetensors");
  const bytes = CASES[title]!();
  await writeFile(path, bytes);
  const found: string[] = [];
  for (const name of Object.keys(OPERATIONS)) found.push(await runOperation(name, path, join(folder, "out")));
  expect(Buffer.compare(await readFile(path), bytes)).toBe(0);
  outcomes.set(title, found);
});

/** A change of an answer is a change of behaviour: look at the difference, and only then update the file. */
test("every answer is the one that is written down", async () => {
  const names = Object.keys(OPERATIONS);
  const width = Math.max(...names.map((name) => name.length), "E_INCOMPATIBLE".length) + 1;
  const line = (cells: readonly string[], title: string) =>
    `${cells.map((cell) => cell.padEnd(width)).join("")}${title}\n`;
  const lines = [...outcomes].map(([title, found]) => line(found, title));
  await expect(line(names, "file") + lines.join("")).toMatchFileSnapshot("cases.txt");
});
