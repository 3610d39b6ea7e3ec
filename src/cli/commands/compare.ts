import { openAdapter } from "../../adapter/index.js";
import { DyloraError } from "../../errors.js";
import type { OptionTable } from "../../options/option-spec.js";
import { completeOptions } from "../../options/read-options.js";
import { compareAdapters } from "../../surgery/compare/compare.js";
import { defineCommand } from "../command.js";
import { compareText } from "../compare-output.js";
import { writeDocument } from "../json.js";
import { ProgressLine } from "../progress-line.js";

const COMPARE_OPTIONS = {
  modules: {
    type: "boolean",
    default: false,
    group: "Output",
    common: true,
    alsoCalled: ["verbose"],
    description: "list every module, not only those that differ most",
  },
} as const satisfies OptionTable;

export const compareCommand = defineCommand({
  command: "compare",
  flagStyle: "kebab",
  positional: "<file...>",
  positionalDescription: "two LoRA files, of any ranks",
  table: COMPARE_OPTIONS,
  details:
    "Compares what the modules of A and B add to the weights, alpha / rank * up * down: norms, difference, cosine, and how much the spaces overlap that they write to and read from. Principal angles are in --json.",
  examples: [
    {
      comment: "how much did resizing change?",
      command: "dylora compare cat.safetensors cat-r16.safetensors",
    },
    {
      comment: "module by module",
      command: "dylora compare cat.safetensors dog.safetensors --modules",
    },
    {
      comment: "everything, for a script",
      command: "dylora compare cat.safetensors dog.safetensors --json",
    },
  ],
  onInterrupt: "stopping",

  async run({ positional, given }, { stdout, stderr, json, signal }) {
    const options = completeOptions({ command: "compare", table: COMPARE_OPTIONS }, given, "E_USAGE");
    if (positional.length !== 2) {
      throw new DyloraError("E_USAGE", `compare: two files are needed, found ${positional.length}`, {
        note: "`dylora compare A.safetensors B.safetensors`",
      });
    }
    await using a = await openAdapter(positional[0]!);
    await using b = await openAdapter(positional[1]!);
    const line = new ProgressLine(stderr);
    try {
      const report = await compareAdapters(a, b, {
        signal,
        onProgress: ({ doneModules, totalModules }) =>
          line.update(`comparing  ${doneModules}/${totalModules} modules`),
      });
      line.clear();
      if (json) writeDocument(stdout, report);
      else stdout.write(compareText(report, options.modules, stdout));
    } finally {
      line.clear();
    }
    return undefined;
  },
});
