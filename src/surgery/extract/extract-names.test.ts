import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { PAPER } from "../../../test/helpers/extract-file.js";
import { outDir, parentPath, run, useExtractFolder } from "../../../test/helpers/extract-folder.js";
import { everyKindOfModule, writeRandomAdapter } from "../../../test/helpers/random-adapter.js";
import { openAdapter } from "../../adapter/index.js";

useExtractFolder();

describe("names", () => {
  it.each([
    ["{stem}_{rank}", ["cat_2", "cat_8"]],
    ["r{rank}.safetensors", ["r2", "r8"]],
    [
      "{stem} (alpha {alpha}, rank {rank}, te {te})",
      ["cat (alpha 4, rank 2, te 2)", "cat (alpha 4, rank 8, te 8)"],
    ],
  ])("%s", async (name, expected) => {
    await writeRandomAdapter(parentPath, { metadata: { ...PAPER, ss_output_name: "cat" } });
    const { outputs } = await run({ ranks: [2, 8] }, { name });
    expect(outputs.map(({ path }) => path)).toEqual(
      expected.map((title) => join(outDir, `${title}.safetensors`)),
    );
    await using copy = await openAdapter(outputs[0]!.path);
    expect(copy.metadata.ss_output_name).toBe(expected[0]);
  });

  it.each([
    ["one name for two ranks", "{stem}", {}, "more than one of the 2 files would be called cat"],
    ["the same alpha", "{alpha}", {}, "more than one of the 2 files would be called 4"],
    ["another folder", "../{rank}", {}, "which is no file name"],
    ["a folder within", "a/{rank}", {}, "which is no file name"],
    ["no name", "", {}, "which is no file name"],
    ["an unknown placeholder", "{dim}", {}, "has an unknown {dim}"],
    ["a property of every object", "{constructor}", {}, "has an unknown {constructor}"],
    [
      "several alphas",
      "{alpha}-{rank}",
      { alphaRule: "sd-scripts" },
      "the modules of rank 6 have different alphas",
    ],
  ] as const)("refused: %s", async (_, name, options, message) => {
    await writeRandomAdapter(parentPath, { modules: everyKindOfModule(8, 4), metadata: PAPER });
    await expect(run({ ranks: [6, 8] }, { name, ...options })).rejects.toMatchObject({
      code: "E_USAGE",
      message: expect.stringContaining(message),
      note: expect.stringContaining("Nothing was written"),
    });
    expect(existsSync(outDir)).toBe(false);
  });
});
