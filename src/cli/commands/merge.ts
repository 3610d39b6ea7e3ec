import path from "node:path";
import { openAdapter } from "../../adapter/index.js";
import { DyloraError } from "../../errors.js";
import type { ConfigOf, OptionTable } from "../../options/option-spec.js";
import { completeOptions } from "../../options/read-options.js";
import { planMergeIntoBase, runMergeIntoBase } from "../../surgery/merge/base.js";
import { parseBlockWeights } from "../../surgery/merge/block-weights.js";
import { planMerge, runMerge } from "../../surgery/merge/merge.js";
import type { MergeInput } from "../../surgery/merge/terms.js";
import { type CommandContext, defineCommand, printNotes } from "../command.js";
import { DTYPE_OPTION } from "../dtype-option.js";
import { formatBytes, formatQuantity } from "../format.js";
import { writeDocument } from "../json.js";
import {
  mergeBaseDocument,
  mergeBasePlanDocument,
  mergeBasePlanText,
  mergeBaseText,
  mergeDocument,
  mergePlanDocument,
  mergePlanText,
  mergeText,
} from "../merge-output.js";
import { ProgressLine } from "../progress-line.js";
import { MERGE_FOREIGN } from "../sd-scripts-tools.js";

const MERGE_OPTIONS = {
  ratios: {
    type: "list",
    default: [],
    placeholder: "x...",
    group: "Merge",
    common: true,
    alsoCalled: ["ratio", "weights", "weight", "multiplier", "base_weights_multiplier"],
    description: "strength of each file, in their order; negative ones subtract",
    defaultText: "1 for each",
  },
  out: {
    type: "path",
    default: null,
    required: true,
    placeholder: "path",
    group: "Merge",
    common: true,
    alsoCalled: ["output", "save_to"],
    description: "file to write; the folder where --into is a diffusers folder",
  },
  into: {
    type: "path",
    default: null,
    placeholder: "model",
    group: "Merge",
    common: true,
    alsoCalled: ["sd_model", "base", "base_model", "pretrained_model_name_or_path"],
    description: "merge into this base model (file or diffusers folder) instead of into one LoRA",
    defaultText: "none",
  },
  rank: {
    type: "integer",
    default: null,
    min: 1,
    group: "Merge",
    common: true,
    alsoCalled: ["new_rank", "dim", "network_dim"],
    description: "cut the sum down to this rank, by its singular values",
    defaultText: "keep all, exactly",
  },
  conv_rank: {
    type: "integer",
    default: null,
    min: 1,
    group: "Merge",
    common: true,
    alsoCalled: ["new_conv_rank", "conv_dim"],
    description: "the same for 3x3 convolutions",
    defaultText: "--rank",
  },
  block_weights: {
    type: "list",
    default: [],
    placeholder: "weights...",
    group: "Merge",
    common: true,
    alsoCalled: ["lbws", "lbw", "block_weight"],
    description:
      "strength by block of the U-Net, one text for each file: 12, 17, 20 or 26 numbers with commas, or BLOCK=x pairs such as TE=0,OUT=0.5",
  },
  dtype: DTYPE_OPTION,
  force: {
    type: "boolean",
    default: false,
    group: "Merge",
    common: true,
    alsoCalled: ["overwrite"],
    description: "replace what exists",
  },
  dry_run: {
    type: "boolean",
    default: false,
    group: "Merge",
    common: true,
    description: "show what would be written, and write nothing",
  },
} as const satisfies OptionTable;

type Options = ConfigOf<typeof MERGE_OPTIONS>;

export const mergeCommand = defineCommand({
  command: "merge",
  flagStyle: "kebab",
  positional: "<file...>",
  positionalDescription: "LoRA files, of any ranks",
  table: MERGE_OPTIONS,
  foreign: MERGE_FOREIGN,
  details:
    "Each file counts with ratio * alpha / rank, once. Without --rank the result is exact: its rank is the sum of the ranks. The 17 block weights of SD 1.x and 2.x are BASE (text encoder), IN01, IN02, IN04, IN05, IN07, IN08, M00, OUT03 to OUT11; the 12 of SDXL BASE, IN04, IN05, IN07, IN08, M00, OUT00 to OUT05; 26 and 20 name every block. Blocks that are not named keep 1.",
  examples: [
    {
      comment: "two adapters in one, the second weaker",
      command: "dylora merge cat.safetensors ink.safetensors --ratios 1 0.6 --out cat-ink.safetensors",
    },
    {
      comment: "the same at rank 32, without the second one's text encoder",
      command:
        "dylora merge cat.safetensors ink.safetensors --rank 32 --block-weights 1 TE=0 --out cat-ink.safetensors",
    },
    {
      comment: "into a base model, which then needs no adapter",
      command: "dylora merge cat.safetensors --into sd15.safetensors --out sd15-cat.safetensors",
    },
  ],
  onInterrupt: "stopping",

  async run({ positional, given, notes }, context) {
    printNotes(notes, context);
    const options = completeOptions({ command: "merge", table: MERGE_OPTIONS }, given, "E_USAGE");
    const ratios = readRatios(options.ratios, positional.length);
    const blockWeights = readBlockWeights(options.blockWeights, positional.length);
    const inputs: MergeInput[] = [];
    try {
      for (const [i, file] of positional.entries()) {
        const adapter = await openAdapter(file);
        inputs.push({ adapter, ratio: ratios[i]!, blockWeights: blockWeights[i] ?? null });
      }
      if (options.into === null) await mergeAdapters(inputs, options, context);
      else await mergeIntoBase(options.into, inputs, options, context);
      return undefined;
    } finally {
      for (const { adapter } of inputs) await adapter.close();
    }
  },
});

async function mergeAdapters(inputs: MergeInput[], options: Options, context: CommandContext): Promise<void> {
  const { stdout, json } = context;
  const plan = planMerge(inputs, {
    path: path.resolve(options.out!),
    rank: options.rank,
    convRank: options.convRank,
    ...(options.dtype === null ? {} : { dtype: options.dtype }),
  });
  if (options.dryRun) {
    if (json) writeDocument(stdout, mergePlanDocument(plan));
    else stdout.write(mergePlanText(plan, stdout));
    return;
  }
  const report = await withProgress(options, context, (running) => runMerge(plan, running));
  if (json) writeDocument(stdout, mergeDocument(report));
  else stdout.write(mergeText(plan, report, stdout));
}

async function mergeIntoBase(
  base: string,
  inputs: MergeInput[],
  options: Options,
  context: CommandContext,
): Promise<void> {
  const { stdout, json } = context;
  for (const name of ["rank", "convRank", "dtype"] as const) {
    if (options[name] === null) continue;
    const flag = name === "convRank" ? "conv-rank" : name;
    throw usage(`--${flag} has no meaning with --into`, "A base model keeps its types and has no rank.");
  }
  const plan = await planMergeIntoBase(base, inputs, path.resolve(options.out!));
  if (options.dryRun) {
    if (json) writeDocument(stdout, mergeBasePlanDocument(plan));
    else stdout.write(mergeBasePlanText(plan, stdout));
    return;
  }
  const report = await withProgress(options, context, (running) => runMergeIntoBase(plan, running));
  if (json) writeDocument(stdout, mergeBaseDocument(report));
  else stdout.write(mergeBaseText(plan, report, stdout));
}

interface Running {
  readonly overwrite: boolean;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: { readonly doneBytes: number; readonly totalBytes: number }) => void;
}

async function withProgress<Report>(
  options: Options,
  { stderr, signal }: CommandContext,
  run: (running: Running) => Promise<Report>,
): Promise<Report> {
  const line = new ProgressLine(stderr);
  try {
    return await run({
      overwrite: options.force,
      signal,
      onProgress: ({ doneBytes, totalBytes }) =>
        line.update(`merging  ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`),
    });
  } finally {
    line.clear();
  }
}

/** `1 0.6` or `1,0.6`. */
function readRatios(words: readonly string[], fileCount: number): number[] {
  if (words.length === 0) return new Array<number>(fileCount).fill(1);
  const texts = words.flatMap((word) => word.split(","));
  const ratios = texts.map((text) => {
    const value = text.trim() === "" ? Number.NaN : Number(text);
    if (Number.isFinite(value)) return value;
    throw usage(`--ratios: ${JSON.stringify(text)} is no number`, "Give the files before the options.");
  });
  if (ratios.length === fileCount) return ratios;
  throw usage(
    `--ratios: ${formatQuantity(ratios.length, "number")} for ${formatQuantity(fileCount, "file")}`,
    "Give one for each file.",
  );
}

function readBlockWeights(texts: readonly string[], fileCount: number) {
  if (texts.length !== 0 && texts.length !== fileCount) {
    throw usage(
      `--block-weights: ${formatQuantity(texts.length, "text")} for ${formatQuantity(fileCount, "file")}`,
      "Give one for each file; 1 leaves a file as it is.",
    );
  }
  return texts.map(parseBlockWeights);
}

function usage(problem: string, note: string): DyloraError {
  return new DyloraError("E_USAGE", `merge: ${problem}`, { note: `${note} Nothing was written.` });
}
