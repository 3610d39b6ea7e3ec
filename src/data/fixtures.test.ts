/** The fixtures hold what their README says, and go through the same code as a user's data. */
import { existsSync } from "node:fs";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";
import { expect, test } from "vitest";
import { loadImage } from "./image.js";
import { dropUnreadable, probeImages } from "./probe.js";
import { scanEvaluationDir, scanTrainDataDir } from "./scan.js";

const FIXTURES = join(import.meta.dirname, "../../fixtures");
const TRAIN = join(FIXTURES, "emoji/train");
const VALIDATION = join(FIXTURES, "emoji/validation");

test("48 pictures to train on and 12 others to validate with, all captioned", async () => {
  const train = await scanTrainDataDir(TRAIN);
  const validation = await scanEvaluationDir(VALIDATION);
  expect([train.items.length, validation.items.length]).toEqual([48, 12]);
  expect([...train.warnings, ...validation.warnings]).toEqual([]);
  const items = [...train.items, ...validation.items];
  expect(new Set(items.map(({ caption }) => caption)).size).toBe(60);
  for (const { caption } of items) expect(caption).toMatch(/^an emoji of an? [a-z ]+$/);
  const contents = await Promise.all(items.map(({ imagePath }) => readFile(imagePath, "base64")));
  expect(new Set(contents).size).toBe(60);
});

test("the pictures are 64 x 64 with transparency, readable, and small as a set", async () => {
  const train = await scanTrainDataDir(TRAIN);
  const probed = await probeImages(train.items);
  expect(dropUnreadable(train, probed)).toBe(train);
  for (const { width, height } of probed.readable) expect([width, height]).toEqual([64, 64]);
  for (const { imagePath } of train.items) expect((await sharp(imagePath).metadata()).hasAlpha).toBe(true);
  const corners = await loadImage(train.items[0]!.imagePath, { width: 64, height: 64 });
  expect(corners[0]).toBe(1); // transparent, so white

  const names = await readdir(join(FIXTURES, "emoji"), { recursive: true });
  const sizes = await Promise.all(
    names.map(async (name) => (await stat(join(FIXTURES, "emoji", name))).size),
  );
  expect(sizes.reduce((total, size) => total + size, 0)).toBeLessThan(1_000_000);
});

test("the checkpoint is the golden one", async () => {
  const golden = join(FIXTURES, "../../shared/golden/sd1-tiny/single-file.safetensors");
  const fixture = await readFile(join(FIXTURES, "sd1-tiny.safetensors"));
  expect(fixture.length).toBe(12_945_182);
  if (existsSync(golden)) expect(fixture.equals(await readFile(golden))).toBe(true);
});
