/** `dylora generate` as a user types it. (The built program: test/e2e/generate.test.ts) */
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";
import { expect, test } from "vitest";
import { runInProcess } from "./helpers/run-in-process.js";
import { tempFolder } from "./helpers/temp-folder.js";
import { writeTinyAdapter } from "./helpers/tiny-adapter.js";
import { TINY_MODEL } from "./helpers/tiny-run.js";

const OPTIONS = [
  `--pretrained_model_name_or_path=${TINY_MODEL}`,
  "--steps=2",
  "--seed=3",
  "--device=cpu",
  "--threads=1",
];

test("prompts from a file, several pictures of each, an adapter of chosen rank and strength", {
  timeout: 300_000,
}, async () => {
  const cwd = await tempFolder();
  await writeTinyAdapter(join(cwd, "cat.safetensors"));
  await writeFile(join(cwd, "prompts.txt"), "a cat --d 9 --l 1\nein Kätzchen --w 32 --h 16 --ss k_euler\n");
  const args = [
    "generate",
    "cat.safetensors:rank=2:multiplier=0.5",
    ...OPTIONS,
    "--from-file=prompts.txt",
    "--images-per-prompt=2",
    "--output-dir=out",
  ];
  const { status, stderr } = await runInProcess(args, { cwd });
  expect(stderr).toBe("");
  expect(status).toBe(0);
  expect((await readdir(join(cwd, "out"))).sort()).toEqual([
    "00-seed10.png",
    "00-seed9.png",
    "01-seed3.png",
    "01-seed4.png",
  ]);
  const { width, height, comments } = await sharp(join(cwd, "out", "01-seed3.png")).metadata();
  expect([width, height]).toEqual([32, 16]);
  expect(comments![0]!.text).toMatch(
    /^ein Kätzchen\nSteps: 2, Sampler: Euler, .*Lora ranks: "cat: 2", Lora multipliers: "cat: 0.5"/,
  );

  const before = await readFile(join(cwd, "out", "00-seed9.png"));
  expect((await runInProcess([...args, "--force"], { cwd })).status).toBe(0);
  expect(await readFile(join(cwd, "out", "00-seed9.png"))).toEqual(before);
});

test.each([
  [[], "there is no prompt"],
  [["--prompt=a", "--resolution=24"], "positive multiples of 16"],
  [["--prompt=a", "--from_file=b.txt"], "--prompt and --from_file exclude each other"],
  [["--prompt=a", "--ranks=4"], "--ranks needs a LoRA file"],
  [["--prompt=a", "--sampler=heun"], "--sampler heun is not available"],
  [["--prompt=a", "--cfg_scale=5"], "unknown option --cfg_scale"],
  [["cat.safetensors:rnk=4", "--prompt=a"], "cannot read :rnk=4"],
  [["cat.safetensors:rank=4:rank=8", "--prompt=a"], "cannot read :rank=4"],
])("wrong usage: %j", async (args, message) => {
  const cwd = await tempFolder();
  const { status, stderr } = await runInProcess(["generate", ...OPTIONS, ...args], { cwd });
  expect(status).toBe(2);
  expect(stderr).toContain(message);
  expect(await readdir(cwd)).toEqual([]);
});
