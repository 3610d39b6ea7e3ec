import type { NestPlan, NestReport } from "../surgery/nest/nest.js";
import { formatBytes, formatPath, formatPercent, formatQuantity } from "./format.js";
import { renderFields, renderTable } from "./table.js";
import type { OutputStream } from "./terminal.js";

/** Enough of the hash to tell files apart, as long as Civitai's AutoV3. */
const SHORT_HASH = 12;

/** This many rows are enough to see the curve. */
const MAX_ROWS = 12;

/** What was written, and what `extract` will lose at each rank. */
export function nestText(plan: NestPlan, report: NestReport, out: OutputStream): string {
  const fields = [...planFields(plan), ["hash", report.dataSha256.slice(0, SHORT_HASH)] as const];
  const errors = report.relativeErrorAtRank;
  const every = Math.ceil(errors.length / MAX_ROWS);
  // Counted from the end: the full rank is always there.
  const ranks = errors.map((_, index) => index + 1).filter((rank) => (errors.length - rank) % every === 0);
  const table = renderTable(
    ranks,
    [
      { title: "rank", align: "right", value: (rank) => String(rank) },
      { title: "error", align: "right", value: (rank) => formatPercent(100 * errors[rank - 1]!) },
      {
        title: "energy kept",
        align: "right",
        value: (rank) => formatPercent(100 * (1 - errors[rank - 1]! ** 2)),
      },
    ],
    out,
  );
  return `${renderFields(fields)}\n${out.style.bold("What `dylora extract` gives at each rank")}\n${table}`;
}

export function nestPlanText(plan: NestPlan): string {
  return `${renderFields(planFields(plan))}Nothing was written (--dry-run).\n`;
}

export function nestDocument(report: NestReport): object {
  return { ...report, dryRun: false };
}

/** The plan for `--json`, with the fields that the report has. */
export function nestPlanDocument({ parent, output }: NestPlan): object {
  return {
    path: output.path,
    sizeBytes: output.sizeBytes,
    dtype: output.dtype,
    maxRank: parent.maxRank,
    moduleCount: parent.modules.length,
    parent: { path: parent.path },
    dryRun: true,
  };
}

function planFields({ parent, output }: NestPlan): [string, string][] {
  return [
    ["parent", formatPath(parent.path)],
    ["file", formatPath(output.path)],
    [
      "size",
      `${formatBytes(output.sizeBytes)}, ${formatQuantity(parent.modules.length, "module")}, ${output.dtype}`,
    ],
    ["rank", String(parent.maxRank)],
  ];
}
