import type { OptionTable } from "../../options/option-spec.js";
import { completeOptions } from "../../options/read-options.js";
import { type VerifyReport, verifyFile } from "../../surgery/verify/verify.js";
import { defineCommand } from "../command.js";
import { asDyloraError, printError } from "../errors.js";
import { formatBytes } from "../format.js";
import { writeDocument } from "../json.js";
import { ProgressLine } from "../progress-line.js";
import { verifyText } from "../verify-output.js";

const VERIFY_OPTIONS = {
  pretrained_model_name_or_path: {
    type: "path",
    default: null,
    placeholder: "model",
    group: "Verify",
    common: true,
    alsoCalled: ["base", "base_model", "model", "into"],
    description: "base model that the adapter must fit: .safetensors file or diffusers folder",
    defaultText: "none",
  },
  strict: {
    type: "boolean",
    default: false,
    group: "Verify",
    common: true,
    description: "warnings fail too",
  },
} as const satisfies OptionTable;

/** Exit status where a file has problems. */
const PROBLEMS_STATUS = 3;

export const verifyCommand = defineCommand({
  command: "verify",
  flagStyle: "kebab",
  positional: "<file...>",
  positionalDescription: "LoRA files or base models",
  table: VERIFY_OPTIONS,
  details:
    "Reads all data of each file: format, hashes, infinity and NaN, modules that do nothing, alphas and metadata that cannot be right. Exit status 0: no errors; 3: errors, or a file that cannot be read.",
  examples: [
    { comment: "is it in order?", command: "dylora verify cat.safetensors" },
    {
      comment: "does it fit this model?",
      command: "dylora verify cat.safetensors --pretrained-model-name-or-path sd15.safetensors",
    },
    {
      comment: "all files of a folder, for a script",
      command: "dylora verify loras/*.safetensors --json --strict",
    },
  ],
  onInterrupt: "stopping",

  async run({ positional, given }, context) {
    const options = completeOptions({ command: "verify", table: VERIFY_OPTIONS }, given, "E_USAGE");
    const reports: VerifyReport[] = [];
    const line = new ProgressLine(context.stderr);
    let status = 0;
    for (const file of positional) {
      try {
        const report = await verifyFile(file, {
          ...(options.pretrainedModelNameOrPath === null
            ? {}
            : { basePath: options.pretrainedModelNameOrPath }),
          signal: context.signal,
          onProgress: ({ doneBytes, totalBytes }) =>
            line.update(`verifying ${file}  ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`),
        });
        line.clear();
        reports.push(report);
        if (!context.json) context.stdout.write(verifyText(report, context.stdout));
        if (!report.ok || (options.strict && report.counts.warning > 0)) status = PROBLEMS_STATUS;
      } catch (thrown) {
        line.clear();
        const error = asDyloraError(thrown);
        // One file of many that cannot be read should not hide the others.
        if (positional.length === 1 || context.signal.aborted) throw error;
        printError(error, context.stderr, { json: context.json, debug: context.debug });
        status ||= error.exitCode;
      }
    }
    if (context.json) writeDocument(context.stdout, { files: reports });
    return status;
  },
});
