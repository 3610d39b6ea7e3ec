import path from "node:path";
import { openAdapter, WRITTEN_DIALECTS } from "../../adapter/index.js";
import type { OptionTable } from "../../options/option-spec.js";
import { completeOptions } from "../../options/read-options.js";
import { convert } from "../../surgery/convert/convert.js";
import { planConvert } from "../../surgery/convert/plan.js";
import { defineCommand } from "../command.js";
import { convertDocument, convertPlanDocument, convertPlanText, convertText } from "../convert-output.js";
import { formatBytes } from "../format.js";
import { writeDocument } from "../json.js";
import { ProgressLine } from "../progress-line.js";

const CONVERT_OPTIONS = {
  to: {
    type: "enum",
    default: null,
    required: true,
    values: WRITTEN_DIALECTS,
    placeholder: "dialect",
    group: "Convert",
    common: true,
    alsoCalled: ["format", "dialect"],
    ignoreCase: true,
    description: "how the tensors are to be named",
  },
  out: {
    type: "path",
    default: null,
    required: true,
    placeholder: "path",
    group: "Convert",
    common: true,
    alsoCalled: ["output", "save_to"],
    description: "file to write; for peft the folder",
  },
  keep_unknown: {
    type: "boolean",
    default: false,
    group: "Convert",
    common: true,
    description: "carry over, under their own names, modules that the other dialect has no name for",
  },
  force: {
    type: "boolean",
    default: false,
    group: "Convert",
    common: true,
    alsoCalled: ["overwrite"],
    description: "replace what exists; a folder only if it holds nothing but an adapter",
  },
  dry_run: {
    type: "boolean",
    default: false,
    group: "Convert",
    common: true,
    description: "show what would be written, and write nothing",
  },
} as const satisfies OptionTable;

/** What a dry run answers where the conversion would be refused: a file that does not fit. */
const REFUSED_STATUS = 3;

export const convertCommand = defineCommand({
  command: "convert",
  flagStyle: "kebab",
  positional: "<file>",
  positionalDescription: "LoRA file, or folder that PEFT or diffusers saved one in",
  table: CONVERT_OPTIONS,
  details:
    "For Stable Diffusion 1.x, 2.x and SDXL. The numbers stay as they are, byte for byte, and converting back gives back the file that it was.",
  examples: [
    {
      comment: "for diffusers' load_lora_weights",
      command: "dylora convert cat.safetensors --to diffusers --out pytorch_lora_weights.safetensors",
    },
    {
      comment: "from PEFT to A1111, ComfyUI and kohya's tools",
      command: "dylora convert output/adapter --to kohya --out cat.safetensors",
    },
    {
      comment: "a folder for each of U-Net and text encoder; look first",
      command: "dylora convert cat.safetensors --to peft --out cat-peft --dry-run",
    },
  ],
  onInterrupt: "stopping",

  async run({ positional, given }, context) {
    const options = completeOptions({ command: "convert", table: CONVERT_OPTIONS }, given, "E_USAGE");
    const source = await openAdapter(positional[0] ?? "", { foreign: "keep" });
    const line = new ProgressLine(context.stderr);
    try {
      const { to, keepUnknown } = options;
      const { signal } = context;
      const plan = await planConvert(source, { to, path: path.resolve(options.out), keepUnknown, signal });
      if (options.dryRun) {
        if (context.json) writeDocument(context.stdout, convertPlanDocument(plan));
        else context.stdout.write(convertPlanText(plan, context.stdout));
        return plan.unmapped.length > 0 && !keepUnknown ? REFUSED_STATUS : undefined;
      }
      const report = await convert(plan, {
        overwrite: options.force,
        signal,
        onProgress: ({ doneBytes, totalBytes }) =>
          line.update(`converting  ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`),
      });
      line.clear();
      if (context.json) writeDocument(context.stdout, convertDocument(report));
      else context.stdout.write(convertText(report, context.stdout));
      return undefined;
    } finally {
      line.clear();
      await source.close();
    }
  },
});
