import path from "node:path";
import { type Adapter, ALPHA_RULES, openAdapter } from "../../adapter/index.js";
import { DyloraError } from "../../errors.js";
import { CALIBRATION_OPTIONS } from "../../evaluation/calibration-options.js";
import { type ConfigOf, camelCase, type OptionTable } from "../../options/option-spec.js";
import { completeOptions } from "../../options/read-options.js";
import {
  type Budget,
  type ExtractPlan,
  extract,
  planBudgetExtract,
  planExtract,
  type RankSelection,
} from "../../surgery/index.js";
import { type CommandContext, defineCommand, printNote, printNotes } from "../command.js";
import { DTYPE_OPTION } from "../dtype-option.js";
import { extractDocument, extractText, planDocument, planText } from "../extract-output.js";
import { formatBytes } from "../format.js";
import { writeDocument } from "../json.js";
import { parseSize } from "../parse-size.js";
import { ProgressLine } from "../progress-line.js";
import { EXTRACT_FOREIGN } from "../sd-scripts-tools.js";

const EXTRACT_OPTIONS = {
  ranks: {
    type: "integers",
    default: null,
    min: 1,
    placeholder: "n,n",
    group: "Ranks",
    common: true,
    alsoCalled: ["rank", "new_rank"],
    description: "these ranks, for example 4,8,16",
  },
  unit: {
    type: "integer",
    default: null,
    min: 1,
    group: "Ranks",
    common: true,
    description: "every multiple of n up to the maximum rank, which is always included",
  },
  all: {
    type: "boolean",
    default: false,
    group: "Ranks",
    common: true,
    description: "every rank that the file was trained for",
  },
  unet_rank: {
    type: "integer",
    default: null,
    min: 1,
    group: "Ranks",
    common: true,
    description: "rank of the U-Net's modules in every file",
  },
  te_rank: {
    type: "integer",
    default: null,
    min: 1,
    group: "Ranks",
    common: true,
    alsoCalled: ["text_encoder_rank"],
    description:
      "the same for the text encoders; what has no rank of its own follows --ranks, --unit or --all, or else keeps its full rank",
  },
  budget: {
    type: "text",
    default: null,
    placeholder: "size",
    group: "Ranks",
    common: true,
    alsoCalled: ["target_size", "size", "max_size"],
    description:
      "one file of this size, for example 12MB or 25% of the file's, in which each module has the rank that is worth its bytes",
  },
  calibrate: {
    type: "path",
    default: null,
    placeholder: "dir",
    group: "Ranks",
    common: true,
    alsoCalled: ["data", "calibration"],
    description:
      "with --budget: measure what ranks are worth by the loss on these images (a flat folder with captions, or <repeats>_<class> folders)",
    defaultText: "by the energy of their components",
  },
  out: {
    type: "path",
    default: ".",
    placeholder: "dir",
    group: "Output",
    common: true,
    alsoCalled: ["output_dir", "save_to"],
    description: "folder for the files; it is made where it does not exist",
    defaultText: "the current folder",
  },
  alpha_rule: {
    type: "enum",
    default: null,
    values: ALPHA_RULES,
    group: "Ranks",
    common: true,
    description: "how strength depends on the rank in the file's training",
    defaultText: "what the file's metadata says",
  },
  dtype: {
    ...DTYPE_OPTION,
    description: "type of the factors; values that it cannot hold are refused",
    defaultText: "that of the file, byte for byte",
  },
  name: {
    type: "text",
    default: null,
    placeholder: "pattern",
    group: "Output",
    common: true,
    description: "name of the files, with {stem}, {rank}, {alpha}, {unet}, {te} and {budget}",
    defaultText:
      "{stem}-r{rank}, with component ranks {stem}-unet{unet}-te{te}, with a budget {stem}-{budget}",
  },
  skip_hashes: {
    type: "boolean",
    default: false,
    group: "Output",
    common: true,
    description:
      "leave the hashes out of the metadata: writes several times faster on processors without SHA instructions; loaders then compute the hash themselves",
  },
  modules: {
    type: "boolean",
    default: false,
    group: "Output",
    common: true,
    alsoCalled: ["verbose"],
    description: "with --budget: list the rank of every module",
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
    description: "show what would be written, and write nothing",
  },
  ...CALIBRATION_OPTIONS,
} as const satisfies OptionTable;

type Options = ConfigOf<typeof EXTRACT_OPTIONS>;

export const extractCommand = defineCommand({
  command: "extract",
  flagStyle: "kebab",
  positional: "<file>",
  positionalDescription: "DyLoRA file or PEFT folder (any LoRA will do); copies keep its dialect",
  table: EXTRACT_OPTIONS,
  foreign: EXTRACT_FOREIGN,
  details:
    "The file of rank b is the part of the DyLoRA that was trained as rank b, byte for byte unless --dtype converts it. All files are written in one pass, and each appears only when it is complete.",
  examples: [
    { comment: "three ranks", command: "dylora extract output/last.safetensors --ranks 4,8,16 --out ranks" },
    {
      comment: "a file of sd-scripts without metadata: say how it was trained, look first",
      command: "dylora extract old.safetensors --unit 4 --alpha-rule sd-scripts --dry-run",
    },
    {
      comment: "one file of a quarter of the size: each module's own rank, measured on images",
      command:
        "dylora extract output/last.safetensors --budget 25% --calibrate held-out --pretrained-model-name-or-path sd15.safetensors",
    },
  ],
  onInterrupt: "stopping",

  async run({ positional, given, notes }, context) {
    printNotes(notes, context);
    const options = completeOptions({ command: "extract", table: EXTRACT_OPTIONS }, given, "E_USAGE");
    checkCombination(options, given);
    await using parent = await openAdapter(positional[0] ?? "");
    const line = new ProgressLine(context.stderr);
    try {
      const plan = await planCopies(parent, options, context, line);
      line.clear();
      if (options.dryRun) {
        if (context.json) writeDocument(context.stdout, planDocument(plan));
        else context.stdout.write(planText(plan, options, context.stdout));
        return undefined;
      }
      const report = await extract(plan, {
        overwrite: options.force,
        signal: context.signal,
        onProgress: ({ doneBytes, totalBytes }) =>
          line.update(`extracting  ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`),
      });
      line.clear();
      if (context.json) writeDocument(context.stdout, extractDocument(plan, report));
      else context.stdout.write(extractText(plan, report, options, context.stdout));
      return undefined;
    } finally {
      line.clear();
    }
  },
});

async function planCopies(
  parent: Adapter,
  options: Options,
  { signal, stderr, json }: CommandContext,
  line: ProgressLine,
): Promise<ExtractPlan> {
  const { budget, calibrate: data, unetRank, teRank } = options;
  const planOptions = {
    outDir: path.resolve(options.out),
    hashes: !options.skipHashes,
    ...(options.name === null ? {} : { name: options.name }),
    ...(options.dtype === null ? {} : { dtype: options.dtype }),
    ...(options.alphaRule === null ? {} : { alphaRule: options.alphaRule }),
  };
  if (budget === null) {
    const componentRanks = {
      ...(unetRank === null ? {} : { unet: unetRank }),
      ...(teRank === null ? {} : { te: teRank }),
    };
    return planExtract(parent, rankSelection(options), { ...planOptions, componentRanks });
  }
  const onProgress = ({ doneModules, totalModules }: { doneModules: number; totalModules: number }) =>
    line.update(`measuring  ${doneModules}/${totalModules} modules`);
  const budgetOptions = { ...planOptions, signal, onProgress };
  if (data === null) return planBudgetExtract(parent, readBudget(budget), budgetOptions);
  const warnings: string[] = [];
  const plan = await planBudgetExtract(parent, readBudget(budget), {
    ...budgetOptions,
    measureWorth: async (candidates, reference) => {
      // Loaded only now: onnxruntime and sharp take longer to read from the disk than an extraction does.
      const { calibrate } = await import("../../evaluation/calibration.js");
      const calibrationOptions = {
        ...options,
        pretrainedModelNameOrPath: options.pretrainedModelNameOrPath!,
        data,
      };
      const report = await calibrate(parent, candidates, reference, calibrationOptions, {
        signal,
        onProgress: ({ task, done, total }) => line.update(`${task}  ${done}/${total}`),
      });
      warnings.push(...report.warnings);
      return report.worth;
    },
  });
  line.clear();
  if (!json) for (const warning of warnings) printNote(stderr, warning);
  return plan;
}

function checkCombination(options: Options, given: Partial<Options>): void {
  const { budget, calibrate, pretrainedModelNameOrPath, ranks, unit, all, unetRank, teRank } = options;
  if (budget === null) {
    if (calibrate !== null)
      throw usage("--calibrate needs --budget", "It measures which module needs which rank.");
    if (options.modules) throw usage("--modules needs --budget", "All modules have the rank of the table.");
  } else if (ranks !== null || unit !== null || all || unetRank !== null || teRank !== null) {
    throw usage("ranks are chosen in more than one way", "With --budget every module has a rank of its own.");
  }
  if (calibrate !== null && pretrainedModelNameOrPath === null) {
    throw usage(
      "--calibrate needs --pretrained-model-name-or-path",
      "It measures losses of the checkpoint that the adapter was trained on.",
    );
  }
  const idle = Object.keys(CALIBRATION_OPTIONS).filter((name) => camelCase(name) in given);
  if (calibrate === null && idle.length > 0) {
    throw usage(
      `--${idle[0]!.replaceAll("_", "-")} needs --calibrate`,
      "Without it nothing is computed with the model.",
    );
  }
}

/** Null where the ranks of components say it all. */
function rankSelection(options: Options): RankSelection | null {
  const { ranks, unit, all, unetRank, teRank } = options;
  const selections: RankSelection[] = [
    ...(ranks === null ? [] : [{ ranks }]),
    ...(unit === null ? [] : [{ unit }]),
    ...(all ? [{ all } as const] : []),
  ];
  const [selection, ...more] = selections;
  if (selection !== undefined && more.length === 0) return selection;
  if (selection === undefined && (unetRank !== null || teRank !== null)) return null;
  throw usage(
    selection === undefined ? "no ranks are chosen" : "ranks are chosen in more than one way",
    "Give one of --ranks 4,8,16, --unit 4, --all and --budget 12MB, or --unet-rank and --te-rank.",
  );
}

function readBudget(text: string): Budget {
  const percent = /^(\d+(?:\.\d+)?)\s*%$/.exec(text.trim())?.[1];
  if (percent !== undefined) return { share: Number(percent) / 100 };
  const bytes = parseSize(text);
  if (bytes !== null) return { bytes };
  throw usage(`--budget expects a size such as 12MB or 25%, found ${JSON.stringify(text)}`, "");
}

function usage(message: string, advice: string): DyloraError {
  return new DyloraError("E_USAGE", `extract: ${message}`, { note: `${advice} Nothing was written.`.trim() });
}
