import path from "node:path";
import { type Adapter, openAdapter } from "../../adapter/index.js";
import { DyloraError } from "../../errors.js";
import type { ConfigOf, OptionTable } from "../../options/option-spec.js";
import { completeOptions } from "../../options/read-options.js";
import { planResize, type ResizeOptions } from "../../surgery/resize/plan-resize.js";
import { ENERGY_METHODS, type RankRule } from "../../surgery/resize/rank-rules.js";
import { resize } from "../../surgery/resize/resize.js";
import { type CommandContext, defineCommand, printNotes } from "../command.js";
import { DTYPE_OPTION } from "../dtype-option.js";
import { writeDocument } from "../json.js";
import { parseSize } from "../parse-size.js";
import { ProgressLine } from "../progress-line.js";
import { resizeDocument, resizePlanDocument, resizePlanText, resizeText } from "../resize-output.js";
import { RESIZE_FOREIGN } from "../sd-scripts-tools.js";

const RESIZE_OPTIONS = {
  ranks: {
    type: "integers",
    default: null,
    min: 1,
    placeholder: "n,n",
    group: "Ranks",
    common: true,
    alsoCalled: ["rank", "new_rank", "dim", "network_dim"],
    description: "a file for each of these ranks, for example 8,16,32",
  },
  conv_rank: {
    type: "integer",
    default: null,
    min: 1,
    group: "Ranks",
    common: true,
    alsoCalled: ["new_conv_rank", "conv_dim"],
    description: "with --ranks: the rank of 3x3 convolutions",
    defaultText: "--ranks",
  },
  dynamic_method: {
    type: "enum",
    default: null,
    values: ENERGY_METHODS,
    placeholder: "method",
    group: "Ranks",
    common: true,
    description: "a file whose modules get ranks by their own singular values",
  },
  dynamic_param: {
    type: "number",
    default: null,
    above: 0,
    group: "Ranks",
    common: true,
    description:
      "with --dynamic-method. sv_fro: share of the norm to keep; sv_cumulative: share of the sum of singular values; sv_ratio: keep values down to the largest divided by this",
  },
  target_size: {
    type: "text",
    default: null,
    placeholder: "size",
    group: "Ranks",
    common: true,
    alsoCalled: ["size", "max_size"],
    description: "the best file that is no larger than this, for example 50MB",
  },
  max_rank: {
    type: "integer",
    default: null,
    min: 1,
    group: "Ranks",
    common: true,
    description: "with --dynamic-method and --target-size: the highest rank of any module",
    defaultText: "its own",
  },
  out: {
    type: "path",
    default: ".",
    placeholder: "path",
    group: "Output",
    common: true,
    alsoCalled: ["output_dir", "save_to"],
    description: "folder for the files, or the one file if it ends in .safetensors",
    defaultText: "the current folder",
  },
  dtype: DTYPE_OPTION,
  modules: {
    type: "boolean",
    default: false,
    group: "Output",
    common: true,
    alsoCalled: ["verbose"],
    description: "list rank and error of every module",
  },
  force: {
    type: "boolean",
    default: false,
    group: "Output",
    common: true,
    alsoCalled: ["overwrite"],
    description: "replace files that exist",
  },
  dry_run: {
    type: "boolean",
    default: false,
    group: "Output",
    common: true,
    description: "show ranks, errors and sizes, and write nothing",
  },
} as const satisfies OptionTable;

type Options = ConfigOf<typeof RESIZE_OPTIONS>;

export const resizeCommand = defineCommand({
  command: "resize",
  flagStyle: "kebab",
  positional: "<file>",
  positionalDescription: "LoRA file of any rank",
  table: RESIZE_OPTIONS,
  foreign: RESIZE_FOREIGN,
  details:
    "Each module's product is cut off by its singular values: no other factors of that rank are closer to it. Error is the relative Frobenius norm of what is lost. The strength stays. All files are written in one pass, and each appears only when it is complete.",
  examples: [
    {
      comment: "three ranks in one pass",
      command: "dylora resize cat.safetensors --ranks 8,16,32 --out small",
    },
    {
      comment: "keep 95 % of each module's norm: look first",
      command: "dylora resize cat.safetensors --dynamic-method sv_fro --dynamic-param 0.95 --dry-run",
    },
    {
      comment: "the best file of at most 50 MB",
      command: "dylora resize cat.safetensors --target-size 50MB --out cat-50.safetensors",
    },
  ],
  onInterrupt: "stopping",

  async run({ positional, given, notes }, context) {
    printNotes(notes, context);
    const options = completeOptions({ command: "resize", table: RESIZE_OPTIONS }, given, "E_USAGE");
    const rules = rankRules(options);
    const target = outputTarget(options.out, rules.length);
    await using parent = await openAdapter(positional[0] ?? "");
    await resizeAdapter(parent, rules, { ...target, ...dtypeOf(options) }, options, context);
    return undefined;
  },
});

async function resizeAdapter(
  parent: Adapter,
  rules: readonly RankRule[],
  planOptions: ResizeOptions,
  { dryRun, modules, force }: Options,
  { stdout, stderr, json, signal }: CommandContext,
): Promise<void> {
  const line = new ProgressLine(stderr);
  const progress = (work: string) => ({
    signal,
    onProgress: ({ doneModules, totalModules }: { doneModules: number; totalModules: number }) =>
      line.update(`${work}  ${doneModules}/${totalModules} modules`),
  });
  try {
    const plan = await planResize(parent, rules, {
      ...planOptions,
      ...progress("measuring"),
      measure: dryRun,
    });
    if (dryRun) {
      line.clear();
      if (json) writeDocument(stdout, resizePlanDocument(plan));
      else stdout.write(resizePlanText(plan, modules, stdout));
      return;
    }
    const report = await resize(plan, { overwrite: force, ...progress("resizing") });
    line.clear();
    if (json) writeDocument(stdout, resizeDocument(report));
    else stdout.write(resizeText(plan, report, modules, stdout));
  } finally {
    line.clear();
  }
}

function rankRules(options: Options): RankRule[] {
  const { ranks, convRank, dynamicMethod, dynamicParam, targetSize, maxRank } = options;
  if ((dynamicMethod === null) !== (dynamicParam === null)) {
    throw usage("--dynamic-method and --dynamic-param belong together", "Give both or neither.");
  }
  if (convRank !== null && ranks === null) throw usage("--conv-rank needs --ranks", "Give both or neither.");
  const limit = maxRank === null ? {} : { maxRank };
  const rules: RankRule[] = [...new Set(ranks ?? [])]
    .sort((a, b) => a - b)
    .map((rank) => ({ kind: "rank", rank, ...(convRank === null ? {} : { convRank }) }));
  if (dynamicMethod !== null) {
    rules.push({ kind: "energy", method: dynamicMethod, param: dynamicParam!, ...limit });
  }
  if (targetSize !== null) rules.push({ kind: "size", targetBytes: readSize(targetSize), ...limit });
  if (rules.length === 0) {
    throw usage("no rank is chosen", "Give --ranks 8,16, --dynamic-method or --target-size 50MB.");
  }
  if (maxRank !== null && rules.every(({ kind }) => kind === "rank")) {
    throw usage("--max-rank needs --dynamic-method or --target-size", "Use --ranks for a fixed rank.");
  }
  return rules;
}

function readSize(text: string): number {
  const bytes = parseSize(text);
  if (bytes !== null) return bytes;
  throw usage(`--target-size expects a size such as 50MB or 48MiB, found ${JSON.stringify(text)}`, "");
}

function outputTarget(out: string, files: number): Pick<ResizeOptions, "path" | "outDir"> {
  const target = path.resolve(out);
  if (!/\.safetensors$/i.test(target)) return { outDir: target };
  if (files === 1) return { path: target };
  throw usage(`--out names one file, and ${files} would be written`, "Name a folder.");
}

function dtypeOf({ dtype }: Options): Pick<ResizeOptions, "dtype"> {
  return dtype === null ? {} : { dtype };
}

function usage(message: string, advice: string): DyloraError {
  return new DyloraError("E_USAGE", `resize: ${message}`, { note: `${advice} Nothing was written.`.trim() });
}
