/** The commands for files, each once as the built program; what they do in detail is tested in the process (test/*-command*.test.ts). */
import { readdir } from "node:fs/promises";
import path from "node:path";
import { expect, test } from "vitest";
import { writeRandomAdapter } from "../helpers/random-adapter.js";
import { modulesForModel, writeRandomSingleFile } from "../helpers/random-checkpoint.js";
import { runProgram } from "../helpers/run-program.js";
import { tempFolder } from "../helpers/temp-folder.js";
import { SD1_TINY } from "../helpers/tiny-checkpoints.js";

test("merge into a base model, the difference, its metadata, and a check of it", async () => {
  const cwd = await tempFolder();
  const run = (line: string) => runProgram(line.split(" "), { cwd });
  await writeRandomSingleFile(path.join(cwd, "base.safetensors"), SD1_TINY, "F16");
  await writeRandomAdapter(path.join(cwd, "cat.safetensors"), { modules: modulesForModel(SD1_TINY, 2) });
  for (const line of [
    "merge cat.safetensors --ratios -0.5 --into base.safetensors --out tuned.safetensors",
    "diff base.safetensors tuned.safetensors --rank 2 --out back.safetensors",
    "edit back.safetensors --set modelspec.title=back --in-place",
    "verify back.safetensors --strict --pretrained_model_name_or_path base.safetensors",
    "merge cat.safetensors back.safetensors --ratios 0.5,1 --out nothing.safetensors",
  ]) {
    expect(await run(line)).toMatchObject({ status: 0, stderr: "" });
  }
  expect((await readdir(cwd)).sort()).toEqual(
    ["back", "base", "cat", "nothing", "tuned"].map((name) => `${name}.safetensors`),
  );
});
