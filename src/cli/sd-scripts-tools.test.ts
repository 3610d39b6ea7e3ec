import { describe, expect, test } from "vitest";
import { memoryTerminal } from "../../test/helpers/memory-terminal.js";
import { everyKindOfModule, writeRandomAdapter } from "../../test/helpers/random-adapter.js";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import { runCli } from "./main.js";

async function run(line: string) {
  const terminal = memoryTerminal();
  const status = await runCli(line.split(" "), terminal);
  return { status, stdout: terminal.stdout.text, stderr: terminal.stderr.text };
}

describe("lines that were written for sd-scripts' file tools", () => {
  test.each([
    [
      "merge --save_to c.safetensors --models a.safetensors b.safetensors --ratios 0.5 0.5",
      "merge: unknown option --save_to",
      "Did you mean --out?",
    ],
    [
      "merge x --out c.safetensors --models a.safetensors b.safetensors --ratios 0.5 0.5",
      "merge: --models is not available",
      "dylora merge a.safetensors b.safetensors",
    ],
    ["merge x --out c.safetensors --lbws 1", "merge: unknown option --lbws", "Did you mean --block-weights?"],
    [
      "merge x --out c --no_metadata",
      "merge: --no-metadata is not available",
      "dylora edit FILE --remove '*'",
    ],
    ["diff x y --out c --model_org a", "diff: --model-org is not available", "dylora diff BASE TUNED"],
    ["resize x --model a --new_rank 4", "resize: unknown option --new_rank", "Did you mean --ranks?"],
    ["resize x --model a --ranks 4", "resize: --model is not available", "dylora resize cat.safetensors"],
    ["extract x --model a --unit 4", "extract: --model is not available", "dylora extract cat.safetensors"],
  ])("%s", async (line, message, hint) => {
    const { status, stdout, stderr } = await run(line);
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
    expect(stderr).toContain(`error[E_USAGE]: ${message}`);
    expect(stderr).toContain(hint);
  });

  test("what makes no difference is passed over with a note; with --json stderr stays empty", async () => {
    const folder = await tempFolder();
    const [cat, out] = [`${folder}/cat.safetensors`, `${folder}/out.safetensors`];
    await writeRandomAdapter(cat, { modules: everyKindOfModule(4) });
    const line = `merge ${cat} --out ${out} --dry-run --concat --device cuda`;
    const shown = await run(line);
    expect(shown.status).toBe(0);
    expect(shown.stderr.trimEnd().split("\n")).toEqual([
      "note: --device is ignored: this is computed on the CPU.",
      "note: --concat is ignored: without --rank a merge always keeps all components.",
    ]);
    expect(await run(`${line} --json`)).toMatchObject({ status: 0, stderr: "" });
  });
});
