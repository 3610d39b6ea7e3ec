import { cp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import { pictureFolder } from "../../test/helpers/tiny-run.js";
import { createTrainConfig, type TrainConfig } from "./config.js";
import { loadRunData } from "./dataset.js";

let pictures: string;

beforeAll(async () => {
  pictures = await pictureFolder(10);
});

const load = (changes: Partial<TrainConfig> = {}) =>
  loadRunData(
    createTrainConfig({
      pretrainedModelNameOrPath: "/m.safetensors",
      trainDataDir: pictures,
      seed: 1,
      ...changes,
    }),
    { signal: new AbortController().signal, onProgress: () => {} },
  );

const names = (items: readonly { key: string }[]) => items.map(({ key }) => key);

describe("loadRunData", () => {
  test("without validation everything is trained on", async () => {
    const { train, validation, warnings } = await load();
    expect(train.items).toHaveLength(10);
    expect(train.items[0]).toMatchObject({ repeats: 2, caption: expect.stringContaining("an emoji of") });
    expect(validation.items).toEqual([]);
    expect(warnings).toEqual([]);
  });

  test("a split holds out what its seed says, and nothing is in both", async () => {
    const split = (seed: number) => load({ validationSplit: 0.3, validationSeed: seed });
    const { train, validation } = await split(1);
    expect(validation.items).toHaveLength(3);
    expect([...names(train.items), ...names(validation.items)].sort()).toEqual(
      names((await load()).train.items),
    );
    expect(names((await split(1)).validation.items)).toEqual(names(validation.items));
    const seeds = await Promise.all([2, 3, 4].map(split));
    expect(new Set(seeds.map((other) => names(other.validation.items).join())).size).toBeGreaterThan(1);
  });

  test("without a seed of its own the split follows the seed of the run", async () => {
    const own = await load({ validationSplit: 0.3, validationSeed: 5 });
    const runs = await load({ validationSplit: 0.3, seed: 5 });
    expect(names(runs.validation.items)).toEqual(names(own.validation.items));
  });

  test("a folder of its own is not split", async () => {
    const { train, validation } = await load({ validationDir: await pictureFolder(2, "1_emoji", 20) });
    expect([train.items.length, validation.items.length]).toEqual([10, 2]);
  });

  test("a validation folder within the training folder is refused, with the image", async () => {
    await expect(load({ validationDir: join(pictures, "2_emoji") })).rejects.toMatchObject({
      code: "E_DATA",
      message: expect.stringMatching(/--validation_dir .*2_emoji: .*\.png is trained on, too/),
    });
  });

  test("what cannot be read is left out, with a warning that names it", async () => {
    const damaged = await tempFolder();
    await cp(pictures, damaged, { recursive: true });
    await writeFile(join(damaged, "2_emoji", "broken.png"), "not a picture");
    const { train, warnings } = await load({ trainDataDir: damaged });
    expect(train.items).toHaveLength(10);
    expect(warnings).toContainEqual(expect.stringMatching(/skipped 1 image .*10 left[\s\S]*broken\.png/));
  });
});
