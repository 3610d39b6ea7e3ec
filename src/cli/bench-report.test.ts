import { join } from "node:path";
import { expect, test } from "vitest";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import { readReportPrompts } from "./bench-report.js";

test("--report_prompts is a prompt, a file of prompts, or none", async () => {
  const folder = await tempFolder({ "prompts.txt": "a cat --d 7\n\n# no prompt\na dog\n" });
  expect(await readReportPrompts(null)).toBeNull();
  expect(await readReportPrompts("none")).toEqual([]);
  expect(await readReportPrompts("a cat, 4k --d 7")).toEqual([{ prompt: "a cat, 4k --d 7" }]);
  expect(await readReportPrompts(join(folder, "prompts.txt"))).toEqual([
    { prompt: "a cat", seed: 7 },
    { prompt: "a dog" },
  ]);
  await expect(readReportPrompts("no/such.txt")).rejects.toMatchObject({ code: "E_NOT_FOUND" });
});
