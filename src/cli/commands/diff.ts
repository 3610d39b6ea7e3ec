import path from "node:path";
import { DyloraError } from "../../errors.js";
import type { ConfigOf, OptionTable } from "../../options/option-spec.js";
import { completeOptions } from "../../options/read-options.js";
import { type DiffProgress, diffCheckpoints } from "../../surgery/diff/diff.js";
import { defineCommand, printNotes } from "../command.js";
import { diffDocument, diffText } from "../diff-output.js";
import { DTYPE_OPTION } from "../dtype-option.js";
import { formatBytes } from "../format.js";
import { writeDocument } from "../json.js";
import { ProgressLine } from "../progress-line.js";
import { DIFF_FOREIGN } from "../sd-scripts-tools.js";

const DIFF_OPTIONS = {
  out: {
    type: "path",
    default: null,
    required: true,
    placeholder: "file",
    group: "Diff",
    common: true,
    alsoCalled: ["output", "save_to"],
    description: "LoRA file to write",
  },
  rank: {
    type: "integer",
    default: null,
    min: 1,
    group: "Diff",
    common: true,
    alsoCalled: ["dim", "network_dim", "new_rank"],
    description: "rank of every module; with --energy the highest one",
    defaultText: "128 with --energy, else it must be given",
  },
  conv_rank: {
    type: "integer",
    default: null,
    min: 1,
    group: "Diff",
    common: true,
    alsoCalled: ["conv_dim", "new_conv_rank"],
    description: "the same for 3x3 convolutions",
    defaultText: "--rank",
  },
  energy: {
    type: "number",
    default: null,
    above: 0,
    max: 1,
    group: "Diff",
    common: true,
    description:
      "share of each module's squared norm to keep, for example 0.95: the lowest rank that does is taken",
    defaultText: "none",
  },
  min_diff: {
    type: "number",
    default: 0,
    min: 0,
    group: "Diff",
    common: true,
    description: "leave out modules whose largest change is below this, and list them",
    defaultText: "0, none is left out",
  },
  dtype: { ...DTYPE_OPTION, defaultText: "F16" },
  force: {
    type: "boolean",
    default: false,
    group: "Diff",
    common: true,
    alsoCalled: ["overwrite"],
    description: "replace a file that exists",
  },
  dry_run: {
    type: "boolean",
    default: false,
    group: "Diff",
    common: true,
    description: "compare only: show what differs, and write nothing",
  },
} as const satisfies OptionTable;

/** Highest rank with --energy: what sd-scripts' users train at most. */
const MAX_ENERGY_RANK = 128;

export const diffCommand = defineCommand({
  command: "diff",
  flagStyle: "kebab",
  positional: "<model...>",
  positionalDescription: "the base model and the tuned one, in this order",
  table: DIFF_OPTIONS,
  foreign: DIFF_FOREIGN,
  details:
    "The difference of every linear layer and convolution of U-Net and text encoders becomes a module. What differs and is none (norms, biases, embeddings, the VAE) is listed: a LoRA cannot hold it.",
  examples: [
    {
      comment: "what fine-tuning changed, at rank 64",
      command: "dylora diff sd15.safetensors tuned.safetensors --rank 64 --out tuned-lora.safetensors",
    },
    {
      comment: "as high a rank as each layer needs for 95 % of its change",
      command: "dylora diff sd15.safetensors tuned.safetensors --energy 0.95 --out tuned-lora.safetensors",
    },
    {
      comment: "only look at what differs",
      command:
        "dylora diff sd15.safetensors tuned.safetensors --rank 64 --out x.safetensors --dry-run --json",
    },
  ],
  onInterrupt: "stopping",

  async run({ positional, given, notes }, context) {
    printNotes(notes, context);
    const options = completeOptions({ command: "diff", table: DIFF_OPTIONS }, given, "E_USAGE");
    const [base, tuned, ...more] = positional;
    if (base === undefined || tuned === undefined || more.length > 0) {
      throw usage(
        `two models are needed, found ${positional.length}`,
        "Give the base model and the tuned one.",
      );
    }
    const line = new ProgressLine(context.stderr);
    try {
      const report = await diffCheckpoints(base, tuned, {
        path: path.resolve(options.out ?? ""),
        rank: chosenRank(options),
        convRank: options.convRank,
        energy: options.energy,
        minDiff: options.minDiff,
        dtype: options.dtype ?? "F16",
        overwrite: options.force,
        dryRun: options.dryRun,
        signal: context.signal,
        onProgress: (progress) => line.update(progressText(progress)),
      });
      line.clear();
      if (context.json) writeDocument(context.stdout, diffDocument(report));
      else context.stdout.write(diffText(report, context.stdout));
      return undefined;
    } finally {
      line.clear();
    }
  },
});

function chosenRank({ rank, energy }: ConfigOf<typeof DIFF_OPTIONS>): number {
  if (rank !== null) return rank;
  if (energy !== null) return MAX_ENERGY_RANK;
  throw usage("no rank is chosen", "Give --rank 64, or --energy 0.95.");
}

function progressText(progress: DiffProgress): string {
  return progress.phase === "compare"
    ? `comparing  ${formatBytes(progress.doneBytes)} of ${formatBytes(progress.totalBytes)}`
    : `decomposing  ${progress.doneModules}/${progress.totalModules} modules`;
}

function usage(problem: string, note: string): DyloraError {
  return new DyloraError("E_USAGE", `diff: ${problem}`, { note: `${note} Nothing was written.` });
}
