import { access, constants, stat } from "node:fs/promises";
import path from "node:path";
import { DyloraError } from "../../errors.js";
import { createBenchConfig } from "../../evaluation/bench-config.js";
import { BENCH_OPTIONS } from "../../evaluation/bench-options.js";
import type { BenchReport, MeasuredModels } from "../../evaluation/bench-types.js";
import { LossStore } from "../../evaluation/loss-store.js";
import { writeError, writeFileAtomic } from "../../io/index.js";
import type { OptionTable } from "../../options/option-spec.js";
import { completeOptions } from "../../options/read-options.js";
import { BENCH_REPORT_OPTIONS } from "../../report/bench/report-options.js";
import { benchText } from "../bench-output.js";
import { BenchReporter } from "../bench-progress.js";
import { readReportPrompts, writeBenchReport } from "../bench-report.js";
import { defineCommand } from "../command.js";
import { commandLine } from "../command-line.js";
import { formatPath, formatQuantity } from "../format.js";
import { writeDocument } from "../json.js";

/** What is written beside the table. */
const OUTPUT_OPTIONS = {
  csv: {
    type: "path",
    default: null,
    placeholder: "file",
    group: "Output",
    common: true,
    description: "also write every number as comma-separated values",
  },
} as const satisfies OptionTable;

const TABLE = { ...BENCH_OPTIONS, ...BENCH_REPORT_OPTIONS, ...OUTPUT_OPTIONS };

/** Where losses go that were measured before an interruption, when no other place was named. */
const INTERRUPTED_LOSSES = "bench-losses.jsonl";

export const benchCommand = defineCommand({
  command: "bench",
  flagStyle: "sd-scripts",
  positional: "<file...>",
  positionalDescription: "LoRA or DyLoRA files, or folders of PEFT, to compare on the same samples",
  table: TABLE,
  details:
    "Every rank of every file, and the base model without adapter (rank 0), gets the same images, noises and timesteps, so small differences become visible.",
  examples: [
    {
      comment: "which rank of this DyLoRA is good enough?",
      command:
        "dylora bench output/last.safetensors --pretrained_model_name_or_path sd15.safetensors --data held-out",
    },
    {
      comment:
        "three ranks at three strengths, until the intervals are narrow; can be stopped and started again",
      command:
        "dylora bench output/last.safetensors --pretrained_model_name_or_path sd15.safetensors --data held-out --ranks 4,8,16 --multiplier 0.5,0.75,1 --until 0.002 --cache losses.jsonl",
    },
    {
      comment: "two files side by side, for a script",
      command:
        "dylora bench a.safetensors b.safetensors --pretrained_model_name_or_path sd15.safetensors --data held-out --json",
    },
  ],
  onInterrupt: "stopping after this loss",

  async run({ positional, given }, context) {
    const {
      csv,
      report: page,
      reportPrompts,
      reportSteps,
      reportResolution,
      ...options
    } = completeOptions({ command: "bench", table: TABLE }, given, "E_USAGE");
    const cache = options.cache ?? (page === null ? null : `${page}.losses.jsonl`);
    const config = createBenchConfig({ ...options, cache, files: positional });
    for (const file of [csv, page]) if (file !== null) await checkWritable(file);
    const prompts = page === null ? null : await readReportPrompts(reportPrompts);
    const reporter = context.json ? null : new BenchReporter(context.stderr);
    const losses = config.cache === null ? LossStore.inMemory() : LossStore.open(config.cache);
    let report: BenchReport;
    let measured: MeasuredModels | null = null;
    try {
      const { bench } = await import("../../evaluation/bench.js");
      report = await bench(config, {
        signal: context.signal,
        losses,
        onPlan: (plan) => reporter?.plan(plan),
        onProgress: (progress) => reporter?.progress(progress),
        onMeasured: async (models) => {
          measured = models;
        },
      });
    } catch (error) {
      const isInterruption = !(error instanceof DyloraError) || error.code === "E_INTERRUPTED";
      if (!context.signal.aborted || !isInterruption) throw error;
      // Where the losses lie goes into the command unless it follows from the other options.
      throw interrupted(losses, (path) =>
        commandLine(benchCommand, positional, cache === null ? { ...given, cache: path } : given),
      );
    } finally {
      reporter?.close();
      losses.close();
    }
    if (csv !== null) {
      const { benchCsv } = await import("../../evaluation/bench-csv.js");
      await writeFileAtomic(csv, benchCsv(report));
    }
    if (context.json) writeDocument(context.stdout, report);
    else context.stdout.write(benchText(report, context.stdout));
    if (page !== null && measured !== null) {
      const pictures = { prompts, steps: reportSteps, resolution: reportResolution };
      await writeBenchReport(page, measured, pictures, context);
    }
    return undefined;
  },
});

/**
 * Hours of measuring should not end with a place that cannot be written to.
 *
 * @throws {DyloraError} `E_WRITE`
 */
async function checkWritable(file: string): Promise<void> {
  try {
    await access(path.dirname(file), constants.W_OK);
    const stats = await stat(file).catch(() => null);
    if (stats?.isDirectory()) throw Object.assign(new Error(), { code: "EISDIR" });
  } catch (cause) {
    throw writeError(file, cause);
  }
}

/** Keeps what was measured, and says how to go on from there. */
function interrupted(losses: LossStore, command: (cache: string) => string): DyloraError {
  if (losses.path === null && losses.size > 0) losses.keep(path.resolve(INTERRUPTED_LOSSES));
  if (losses.path === null) {
    return new DyloraError("E_INTERRUPTED", "bench: interrupted", { note: "Nothing was measured yet." });
  }
  return new DyloraError("E_INTERRUPTED", "bench: interrupted", {
    note: `${formatQuantity(losses.size, "loss", "losses")} so far, kept in ${formatPath(losses.path)}. To go on from them: ${command(losses.path)}`,
  });
}
