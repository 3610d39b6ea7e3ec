import { truncate } from "node:fs/promises";
import path from "node:path";
import { expect, test } from "vitest";
import { writeRandomAdapter } from "../helpers/random-adapter.js";
import { runProgram } from "../helpers/run-program.js";
import { tempFolder } from "../helpers/temp-folder.js";

async function folderWith(...names: string[]): Promise<string> {
  const folder = await tempFolder();
  for (const name of names) await writeRandomAdapter(path.join(folder, name), { hashes: true, metadata: {} });
  return folder;
}

test("shows a file in sections", async () => {
  const cwd = await folderWith("cat.safetensors");
  const { status, stdout, stderr } = await runProgram(["inspect", "cat.safetensors"], { cwd });
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  expect(stdout).toMatch(/^cat\.safetensors\n {2}file +\d/);
  expect(stdout).toContain("\nModules\n");
  expect(stdout).toMatch(/ norm\n/);
  expect(stdout).not.toContain("Every tensor");
});

test("--json has everything, several files in one document", async () => {
  const cwd = await folderWith("cat.safetensors", "dog.safetensors");
  const { status, stdout } = await runProgram(
    ["inspect", "cat.safetensors", "dog.safetensors", "--json", "--verify-hash", "--no-norms"],
    { cwd },
  );
  expect(status).toBe(0);
  const document = JSON.parse(stdout);
  expect(document.schemaVersion).toBe(1);
  expect(document.files.map(({ path: file }: { path: string }) => file)).toEqual([
    "cat.safetensors",
    "dog.safetensors",
  ]);
  for (const file of document.files) {
    expect(file).toMatchObject({ dialect: "kohya", hash: { matches: true } });
    expect(file.modules[0]).toMatchObject({ rank: 8, alpha: 4, norm: null });
    expect(file.tensors).toHaveLength(3 * file.modules.length);
  }
});

test("one file that cannot be read does not hide the others", async () => {
  const cwd = await folderWith("cat.safetensors", "dog.safetensors");
  await truncate(path.join(cwd, "cat.safetensors"), 1000);
  const { status, stdout, stderr } = await runProgram(["inspect", "cat.safetensors", "dog.safetensors"], {
    cwd,
  });
  expect(status).toBe(3);
  expect(stderr).toMatch(/^error\[E_FORMAT\]: /);
  expect(stdout).toMatch(/^dog\.safetensors\n/);
});

test.each([
  [["dog.safetensors"], 3, "error[E_NOT_FOUND]: "],
  [[], 2, "error[E_USAGE]: inspect: FILE is missing\n"],
  [
    ["cat.safetensors", "--tensor"],
    2,
    "error[E_USAGE]: inspect: unknown option --tensor\n  note: Did you mean --tensors?",
  ],
])("inspect %j exits with %i", async (args, status, message) => {
  const cwd = await folderWith("cat.safetensors");
  const result = await runProgram(["inspect", ...args], { cwd });
  expect(result).toMatchObject({ status, stdout: "" });
  expect(result.stderr.slice(0, message.length)).toBe(message);
});
