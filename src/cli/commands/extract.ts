import path from "node:path";
import { ALPHA_RULES, openAdapter } from "../../adapter/index.js";
import { DyloraError } from "../../errors.js";
import type { ConfigOf, OptionTable } from "../../options/option-spec.js";
import { completeOptions } from "../../options/read-options.js";
import { extract, planExtract, type RankSelection } from "../../surgery/index.js";
import { defineCommand } from "../command.js";
import { DTYPE_OPTION } from "../dtype-option.js";
import { extractDocument, extractText, planDocument, planText } from "../extract-output.js";
import { formatBytes } from "../format.js";
import { writeDocument } from "../json.js";
import { ProgressLine } from "../progress-line.js";

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
    description: "name of the files, with {stem}, {rank}, {alpha}, {unet} and {te}",
    defaultText: "{stem}-r{rank}, with component ranks {stem}-unet{unet}-te{te}",
  },
  skip_hashes: {
    type: "boolean",
    default: false,
    group: "Output",
    common: true,
    description:
      "leave the hashes out of the metadata: writes several times faster on processors without SHA instructions; loaders then compute the hash themselves",
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
} as const satisfies OptionTable;

export const extractCommand = defineCommand({
  command: "extract",
  flagStyle: "kebab",
  positional: "<file>",
  positionalDescription: "DyLoRA file or PEFT folder (any LoRA will do); copies keep its dialect",
  table: EXTRACT_OPTIONS,
  details:
    "The file of rank b is the part of the DyLoRA that was trained as rank b, byte for byte unless --dtype converts it. All files are written in one pass, and each appears only when it is complete.",
  examples: [
    { comment: "three ranks", command: "dylora extract output/last.safetensors --ranks 4,8,16 --out ranks" },
    {
      comment: "every rank that was trained",
      command: "dylora extract output/last.safetensors --all --out ranks",
    },
    {
      comment: "a file of sd-scripts without metadata: say how it was trained, look first",
      command: "dylora extract old.safetensors --unit 4 --alpha-rule sd-scripts --dry-run",
    },
  ],
  onInterrupt: "stopping",

  async run({ positional, given }, context) {
    const options = completeOptions({ command: "extract", table: EXTRACT_OPTIONS }, given, "E_USAGE");
    const selection = rankSelection(options);
    const parent = await openAdapter(positional[0] ?? "");
    try {
      const plan = planExtract(parent, selection, {
        outDir: path.resolve(options.out),
        hashes: !options.skipHashes,
        componentRanks: {
          ...(options.unetRank === null ? {} : { unet: options.unetRank }),
          ...(options.teRank === null ? {} : { te: options.teRank }),
        },
        ...(options.name === null ? {} : { name: options.name }),
        ...(options.dtype === null ? {} : { dtype: options.dtype }),
        ...(options.alphaRule === null ? {} : { alphaRule: options.alphaRule }),
      });
      if (options.dryRun) {
        if (context.json) writeDocument(context.stdout, planDocument(plan));
        else context.stdout.write(planText(plan, context.stdout));
        return undefined;
      }
      const line = new ProgressLine(context.stderr);
      try {
        const report = await extract(plan, {
          overwrite: options.force,
          signal: context.signal,
          onProgress: ({ doneBytes, totalBytes }) =>
            line.update(`extracting  ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`),
        });
        line.clear();
        if (context.json) writeDocument(context.stdout, extractDocument(plan, report));
        else context.stdout.write(extractText(plan, report, context.stdout));
      } finally {
        line.clear();
      }
      return undefined;
    } finally {
      await parent.close();
    }
  },
});

/** Null where the ranks of components say it all. */
function rankSelection(options: ConfigOf<typeof EXTRACT_OPTIONS>): RankSelection | null {
  const { ranks, unit, all, unetRank, teRank } = options;
  const selections: RankSelection[] = [
    ...(ranks === null ? [] : [{ ranks }]),
    ...(unit === null ? [] : [{ unit }]),
    ...(all ? [{ all } as const] : []),
  ];
  const [selection, ...more] = selections;
  if (selection !== undefined && more.length === 0) return selection;
  if (selection === undefined && (unetRank !== null || teRank !== null)) return null;
  throw new DyloraError(
    "E_USAGE",
    selection === undefined
      ? "extract: no ranks are chosen"
      : "extract: ranks are chosen in more than one way",
    {
      note: "Give one of --ranks 4,8,16, --unit 4 and --all, or --unet-rank and --te-rank. Nothing was written.",
    },
  );
}
