import { mkdir, symlink, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { describe, expect, test } from "vitest";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import type { DyloraError } from "../errors.js";
import { scanEvaluationDir, scanTrainDataDir } from "./scan.js";

/** The scan looks at names only; the content of an image does not matter to it. */
const IMAGE = "";

async function errorOf(promise: Promise<unknown>): Promise<DyloraError> {
  return promise.then(
    () => expect.fail("expected an error"),
    (error) => error,
  );
}

describe("scanTrainDataDir", () => {
  test("reads repeats, class tokens and captions of every sub-folder", async () => {
    const dir = await tempFolder({
      "10_sks dog/b.png": IMAGE,
      "10_sks dog/b.txt": "a dog on a beach\nsecond line\n",
      "10_sks dog/a.JPG": IMAGE,
      "1_dog_in_snow/x.webp": IMAGE,
      "3/y.avif": IMAGE,
      "3/y.caption": "no class tokens needed",
    });
    const { items, warnings } = await scanTrainDataDir(dir);
    expect(items).toEqual([
      {
        key: "10_sks dog/a.JPG",
        imagePath: join(dir, "10_sks dog", "a.JPG"),
        caption: "sks dog",
        repeats: 10,
        subset: "10_sks dog",
      },
      {
        key: "10_sks dog/b.png",
        imagePath: join(dir, "10_sks dog", "b.png"),
        caption: "a dog on a beach",
        repeats: 10,
        subset: "10_sks dog",
      },
      {
        key: "1_dog_in_snow/x.webp",
        imagePath: join(dir, "1_dog_in_snow", "x.webp"),
        caption: "dog_in_snow",
        repeats: 1,
        subset: "1_dog_in_snow",
      },
      {
        key: "3/y.avif",
        imagePath: join(dir, "3", "y.avif"),
        caption: "no class tokens needed",
        repeats: 3,
        subset: "3",
      },
    ]);
    expect(warnings).toEqual([
      'folder "10_sks dog": no caption file for 1 of 2 images (a.JPG): using the class tokens "sks dog"',
    ]);
  });

  test("orders by code unit, whatever the locale says", async () => {
    const dir = await tempFolder();
    const names = ["é.png", "z.png", "B.png", "a.png", "10.png", "2.png"];
    await mkdir(join(dir, "1_x"));
    for (const name of names) await writeFile(join(dir, "1_x", name), IMAGE);
    const { items } = await scanTrainDataDir(dir);
    expect(items.map(({ imagePath }) => basename(imagePath))).toEqual([
      "10.png",
      "2.png",
      "B.png",
      "a.png",
      "z.png",
      "é.png",
    ]);
  });

  test("prefers the given caption extension and falls back to the other", async () => {
    const dir = await tempFolder({
      "1_x/both.png": IMAGE,
      "1_x/both.txt": "from txt",
      "1_x/both.caption": "from caption",
      "1_x/own.png": IMAGE,
      "1_x/own.tags": "from tags",
      "1_x/own.txt": "not this",
      "1_x/txt.png": IMAGE,
      "1_x/txt.TXT": "upper case name",
    });
    const captions = async (captionExtension?: string) =>
      (await scanTrainDataDir(dir, captionExtension === undefined ? {} : { captionExtension })).items.map(
        ({ caption }) => caption,
      );
    expect(await captions()).toEqual(["from caption", "not this", "upper case name"]);
    expect(await captions(".txt")).toEqual(["from txt", "not this", "upper case name"]);
    expect(await captions("tags")).toEqual(["from txt", "from tags", "upper case name"]);
  });

  test("reads captions with byte order marks, and refuses what is no text", async () => {
    const dir = await tempFolder({
      "1_x/bom.png": IMAGE,
      "1_x/bom.txt": "\ufeffa café\r\nmore",
      "1_x/utf16.png": IMAGE,
      "1_x/utf16.txt": Buffer.from("\ufeffa café", "utf16le"),
    });
    expect((await scanTrainDataDir(dir)).items.map(({ caption }) => caption)).toEqual(["a café", "a café"]);
    await writeFile(join(dir, "1_x", "bom.txt"), Buffer.from([0x63, 0x61, 0x66, 0xe9]));
    const error = await errorOf(scanTrainDataDir(dir));
    expect(error.code).toBe("E_DATA");
    expect(error.message).toContain(join(dir, "1_x", "bom.txt"));
  });

  test("says what an empty or missing caption becomes", async () => {
    const dir = await tempFolder({ "1_a cat/a.png": IMAGE, "1_a cat/a.txt": "\n", "2_/b.png": IMAGE });
    const { items, warnings } = await scanTrainDataDir(dir);
    expect(items.map(({ caption }) => caption)).toEqual(["a cat", ""]);
    expect(warnings).toEqual([
      'folder "1_a cat": empty caption file for 1 image (a.png): using the class tokens "a cat"',
      'folder "2_": no caption file for 1 of 1 image (b.png): using an empty caption',
    ]);
  });

  test("skips what is not training data and says so", async () => {
    const dir = await tempFolder({
      "2_cat/a.png": IMAGE,
      "2_cat/._a.png": "macOS resource fork",
      "2_cat/b.bmp": IMAGE,
      "2_cat/notes.md": "",
      "0_off/a.png": IMAGE,
      "raw/a.png": IMAGE,
      "raw/b.png": IMAGE,
      "5_empty/": "",
      ".dylora-cache/1_x.png": IMAGE,
      "stray.png": IMAGE,
    });
    const { items, warnings } = await scanTrainDataDir(dir);
    expect(items.map(({ key }) => key)).toEqual(["2_cat/a.png"]);
    expect(warnings).toEqual([
      'skipped folder "0_off": its repeat count is 0',
      'skipped folder "raw" (2 images): its name has no repeat count; rename it to "1_raw" to use it',
      `skipped 1 image directly in ${dir}: only images inside "<repeats>_<name>" folders are used`,
      'folder "2_cat": skipped 1 image of a format that is not taken (b.bmp)',
      'skipped folder "5_empty": it holds no images',
    ]);
  });

  test("follows links to folders", async () => {
    const elsewhere = await tempFolder({ "a.png": IMAGE });
    const dir = await tempFolder();
    await symlink(elsewhere, join(dir, "4_linked"), "dir");
    expect((await scanTrainDataDir(dir)).items).toMatchObject([{ key: "4_linked/a.png", repeats: 4 }]);
  });
});

describe("a folder that is not in sd-scripts' form", () => {
  test("folder names without a repeat count: shows the names and the renaming", async () => {
    const dir = await tempFolder({
      "cat/a.png": IMAGE,
      "cat/b.png": IMAGE,
      "10 dog/a.png": IMAGE,
      "log/x.txt": "",
    });
    const error = await errorOf(scanTrainDataDir(dir));
    expect(error.code).toBe("E_DATA");
    expect(error.message).toContain('found "10 dog" (1 image), "cat" (2 images)');
    expect(error.note).toContain(`"${join(dir, "10 dog")}" to "${join(dir, "10_dog")}"`);
    expect(error.note).toContain(`"${join(dir, "cat")}" to "${join(dir, "1_cat")}"`);
  });

  test("images directly in the folder: shows them and the folder to make", async () => {
    const dir = await tempFolder({ "a.png": IMAGE, "a.txt": "a cat" });
    const error = await errorOf(scanTrainDataDir(dir));
    expect(error.code).toBe("E_DATA");
    expect(error.message).toContain("found 1 image directly in it (a.png)");
    expect(error.note).toContain(`"${join(dir, `1_${basename(dir)}`)}"`);
  });

  test("the image folder itself instead of its parent", async () => {
    const dir = await tempFolder({ "10_cat/a.png": IMAGE });
    const error = await errorOf(scanTrainDataDir(join(dir, "10_cat")));
    expect(error.message).toContain("expected its parent");
    expect(error.note).toContain(`--train_data_dir "${dir}"`);
  });

  test("one level too high (the project folder of kohya_ss)", async () => {
    const dir = await tempFolder({ "img/10_cat/a.png": IMAGE, "model/": "", "log/": "" });
    const error = await errorOf(scanTrainDataDir(dir, { optionName: "--data" }));
    expect(error.message).toContain('found "img/10_cat"');
    expect(error.note).toContain(`--data "${join(dir, "img")}"`);
  });

  test("a date instead of a repeat count", async () => {
    const dir = await tempFolder({ "20240105_holiday/a.png": IMAGE });
    const error = await errorOf(scanTrainDataDir(dir));
    expect(error.message).toContain("20240105 times");
    expect(error.note).toContain(`"${join(dir, "1_20240105_holiday")}"`);
  });

  test.each([
    ["an empty folder", {}, "found an empty folder"],
    ["only empty folders", { "cat/": "" }, 'found only empty folders ("cat")'],
    ["no images", { "1_cat/a.txt": "", "1_cat/a.gif": "" }, "1 image of a format that is not taken (a.gif)"],
    ["images one level too deep", { "1_cat/more/a.png": "" }, 'folders inside "1_cat"'],
    ["repeat count 0", { "0_cat/a.png": "" }, 'skipped folder "0_cat": its repeat count is 0'],
  ])("%s", async (_, files, found) => {
    const error = await errorOf(scanTrainDataDir(await tempFolder(files as Record<string, string>)));
    expect(error.code).toBe("E_DATA");
    expect(error.message).toContain(found);
  });

  test("no folder at all", async () => {
    const dir = await tempFolder({ file: "" });
    expect((await errorOf(scanTrainDataDir(join(dir, "missing")))).message).toContain("does not exist");
    const error = await errorOf(scanTrainDataDir(join(dir, "file")));
    expect(error.message).toContain("is not a folder");
    expect(error.code).toBe("E_DATA");
  });
});

describe("scanEvaluationDir", () => {
  test("takes the training form", async () => {
    const dir = await tempFolder({ "2_cat/a.png": IMAGE, "stray.png": IMAGE });
    const { items, warnings } = await scanEvaluationDir(dir);
    expect(items).toMatchObject([{ key: "2_cat/a.png", caption: "cat", repeats: 2 }]);
    expect(warnings).toHaveLength(1);
  });

  test("takes a flat folder of images with captions", async () => {
    const dir = await tempFolder({
      "b.png": IMAGE,
      "a.png": IMAGE,
      "a.txt": "first",
      "b.caption": "second",
      "sub/": "",
    });
    const { items, warnings } = await scanEvaluationDir(dir);
    expect(items).toMatchObject([
      { key: "/a.png", caption: "first", repeats: 1, subset: "" },
      { key: "/b.png", caption: "second", repeats: 1, subset: "" },
    ]);
    expect(warnings).toEqual([]);
  });

  test("takes a single <repeats>_<class tokens> folder with its class tokens", async () => {
    const dir = await tempFolder({ "10_sks dog/a.png": IMAGE });
    expect((await scanEvaluationDir(join(dir, "10_sks dog"))).items).toMatchObject([
      { caption: "sks dog", repeats: 1 },
    ]);
  });

  test("refuses an empty folder", async () => {
    const error = await errorOf(scanEvaluationDir(await tempFolder()));
    expect(error.code).toBe("E_DATA");
  });
});
