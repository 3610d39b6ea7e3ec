import path from "node:path";
import { openAdapter } from "../../adapter/index.js";
import type { OptionTable } from "../../options/option-spec.js";
import { completeOptions } from "../../options/read-options.js";
import { nest, planNest } from "../../surgery/nest/nest.js";
import { defineCommand } from "../command.js";
import { DTYPE_OPTION } from "../dtype-option.js";
import { writeDocument } from "../json.js";
import { nestDocument, nestPlanDocument, nestPlanText, nestText } from "../nest-output.js";
import { ProgressLine } from "../progress-line.js";

const NEST_OPTIONS = {
  out: {
    type: "path",
    default: null,
    required: true,
    placeholder: "file",
    group: "Output",
    common: true,
    alsoCalled: ["output", "save_to"],
    description: "file to write",
  },
  dtype: {
    ...DTYPE_OPTION,
    description: "type of the factors; F16 makes the file half as large and costs some 0.03 % of the product",
    defaultText: "F32",
  },
  force: {
    type: "boolean",
    default: false,
    group: "Output",
    common: true,
    alsoCalled: ["overwrite"],
    description: "replace what exists",
  },
  dry_run: {
    type: "boolean",
    default: false,
    group: "Output",
    common: true,
    description: "show what would be written, and write nothing",
  },
} as const satisfies OptionTable;

export const nestCommand = defineCommand({
  command: "nest",
  flagStyle: "kebab",
  positional: "<file>",
  positionalDescription: "LoRA file of any rank",
  table: NEST_OPTIONS,
  details:
    "Each module's product stays what it is; its components are turned so that the first ones hold as much of it as possible. `dylora extract` then takes the best LoRA of every lower rank out of the file, at the strength of the whole.",
  examples: [
    { comment: "make it nested", command: "dylora nest cat.safetensors --out cat-nested.safetensors" },
    {
      comment: "then take ranks out of it",
      command: "dylora extract cat-nested.safetensors --ranks 4,8,16 --out ranks",
    },
    {
      comment: "how large will it be?",
      command: "dylora nest cat.safetensors --out cat-nested.safetensors --dtype F16 --dry-run",
    },
  ],
  onInterrupt: "stopping",

  async run({ positional, given }, { stdout, stderr, json, signal }) {
    const options = completeOptions({ command: "nest", table: NEST_OPTIONS }, given, "E_USAGE");
    await using parent = await openAdapter(positional[0] ?? "");
    const plan = planNest(parent, {
      path: path.resolve(options.out),
      ...(options.dtype === null ? {} : { dtype: options.dtype }),
    });
    if (options.dryRun) {
      if (json) writeDocument(stdout, nestPlanDocument(plan));
      else stdout.write(nestPlanText(plan));
      return undefined;
    }
    const line = new ProgressLine(stderr);
    try {
      const report = await nest(plan, {
        overwrite: options.force,
        signal,
        onProgress: ({ doneModules, totalModules }) =>
          line.update(`nesting  ${doneModules}/${totalModules} modules`),
      });
      line.clear();
      if (json) writeDocument(stdout, nestDocument(report));
      else stdout.write(nestText(plan, report, stdout));
    } finally {
      line.clear();
    }
    return undefined;
  },
});
