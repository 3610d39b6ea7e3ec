import path from "node:path";
import type { OptionTable } from "../../options/option-spec.js";
import { completeOptions } from "../../options/read-options.js";
import { defineCommand } from "../command.js";
import { formatBytes, formatPath } from "../format.js";
import { writeDocument } from "../json.js";

const REPORT_OPTIONS = {
  out: {
    type: "path",
    default: null,
    placeholder: "file.html",
    group: "Output",
    common: true,
    description: "where to write the page",
    defaultText: "beside what it is made from",
  },
} as const satisfies OptionTable;

export const reportCommand = defineCommand({
  command: "report",
  flagStyle: "kebab",
  positional: "<source>",
  positionalDescription: "output folder of a run, its metrics.jsonl, or what `bench --json` printed",
  table: REPORT_OPTIONS,
  details:
    "The page is one file with charts and tables; it loads nothing and sends nothing. A page that dylora wrote is replaced, any other file is left alone. `train` and `bench --report` write theirs themselves, bench with pictures.",
  examples: [
    { comment: "the page of a run that is still going on, or was stopped", command: "dylora report output" },
    {
      comment: "a comparison that was kept as JSON",
      command: "dylora report ranks.json --out ranks.html",
    },
    {
      comment: "the log of an earlier run in the same folder",
      command: "dylora report output/metrics-1.jsonl --out old.html",
    },
  ],
  onInterrupt: "stopping",

  async run({ positional, given }, context) {
    const { out } = completeOptions({ command: "report", table: REPORT_OPTIONS }, given, "E_USAGE");
    const { rebuildReport } = await import("../../report/index.js");
    const report = await rebuildReport(path.resolve(positional[0] ?? ""), { out, signal: context.signal });
    if (context.json) writeDocument(context.stdout, report);
    else context.stdout.write(`${formatPath(report.path)} (${formatBytes(report.sizeBytes)})\n`);
    return undefined;
  },
});
