import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import { expect, test } from "vitest";
import { runProgram } from "../helpers/run-program.js";
import { tempFolder } from "../helpers/temp-folder.js";
import { writeTinyAdapter } from "../helpers/tiny-adapter.js";

const MODEL = fileURLToPath(new URL("../../fixtures/sd1-tiny.safetensors", import.meta.url));
const OPTIONS = [
  `--pretrained_model_name_or_path=${MODEL}`,
  "--steps=2",
  "--seed=3",
  "--device=cpu",
  "--threads=1",
];

const pixels = async (path: string) => (await sharp(path).raw().toBuffer()).toString("hex");

test("a DyLoRA at several ranks, and the files that are extracted at them", {
  timeout: 300_000,
}, async () => {
  const cwd = await tempFolder();
  await writeTinyAdapter(join(cwd, "cat.safetensors"));
  const ranks = ["generate", "cat.safetensors", ...OPTIONS, "--prompt=a cat", "--ranks=0,2,4"];
  const drawn = await runProgram(ranks, { cwd });
  expect(drawn.stderr).toBe("");
  expect(drawn.status).toBe(0);
  expect(drawn.stdout).toMatch(/^images[\\/]00-seed3-rank0\.png {2}16x16, /);
  expect(drawn.stdout).toContain("drew 3 pictures in ");
  expect((await readdir(join(cwd, "images"))).sort()).toEqual([
    "00-seed3-rank0.png",
    "00-seed3-rank2.png",
    "00-seed3-rank4.png",
  ]);
  const { comments } = await sharp(join(cwd, "images", "00-seed3-rank2.png")).metadata();
  expect(comments).toEqual([
    {
      keyword: "parameters",
      text: expect.stringMatching(
        /^a cat\nSteps: 2, Sampler: DDIM, Schedule type: Uniform, CFG scale: 7.5, Seed: 3, Size: 16x16, Model hash: [0-9a-f]{10}, Model: sd1-tiny, Lora hashes: "cat: [0-9a-f]{12}", Lora ranks: "cat: 2", Lora multipliers: "cat: 1", Version: dylora /,
      ),
    },
  ]);

  const again = await runProgram(ranks, { cwd });
  expect(again.status).toBe(2);
  expect(again.stderr).toContain("00-seed3-rank0.png: the file already exists");

  const extracted = await runProgram(["extract", "cat.safetensors", "--ranks=2", "--out=."], { cwd });
  expect(extracted.status).toBe(0);
  const copy = await runProgram(
    ["generate", "cat-r2.safetensors", ...OPTIONS, "--prompt=a cat", "--output_dir=copy", "--json"],
    { cwd },
  );
  expect(copy.status).toBe(0);
  const report = JSON.parse(copy.stdout);
  expect(report).toMatchObject({ schemaVersion: 1, device: "cpu", warnings: [] });
  expect(report.images).toEqual([
    expect.objectContaining({ prompt: "a cat", seed: 3, width: 16, sampler: "ddim", steps: 2 }),
  ]);
  expect(report.images[0].adapters).toEqual([
    { path: join(cwd, "cat-r2.safetensors"), rank: 2, multiplier: 1 },
  ]);
  expect(await pixels(report.images[0].path)).toBe(await pixels(join(cwd, "images", "00-seed3-rank2.png")));
});
