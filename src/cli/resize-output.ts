import { type ResizePlan, ruleSuffix } from "../surgery/resize/plan-resize.js";
import { measureOutput, type ResizedFile, type ResizeReport } from "../surgery/resize/resize.js";
import { formatBytes, formatPath, formatPercent, formatQuantity, formatRanks } from "./format.js";
import { printable } from "./printable.js";
import { type Column, renderTable } from "./table.js";
import type { OutputStream } from "./terminal.js";

/** Enough of the hash to tell files apart, as long as Civitai's AutoV3. */
const SHORT_HASH = 12;

type Row = ResizedFile & { readonly dataSha256?: string };

/** What was written and what was lost, one line per file; on request every module. */
export function resizeText(
  plan: ResizePlan,
  report: ResizeReport,
  modules: boolean,
  out: OutputStream,
): string {
  const hash: Column<Row> = {
    title: "hash",
    value: ({ dataSha256 = "" }) => dataSha256.slice(0, SHORT_HASH),
  };
  return (
    head(plan) +
    renderTable<Row>(report.outputs, [...COLUMNS, hash], out) +
    (modules ? moduleTables(report.outputs, out) : "") +
    notes(report.notes, out)
  );
}

/** What would be written and lost. */
export function resizePlanText(plan: ResizePlan, modules: boolean, out: OutputStream): string {
  const files = measured(plan);
  const table = renderTable<Row>(files, COLUMNS, out);
  return `${head(plan)}${table}${modules ? moduleTables(files, out) : ""}${notes(plan.notes, out)}Nothing was written (--dry-run).\n`;
}

export function resizeDocument(report: ResizeReport): object {
  return { ...report, dryRun: false };
}

/** The plan for `--json`, with the fields that the report has. */
export function resizePlanDocument(plan: ResizePlan): object {
  const { parent, dtype } = plan;
  return {
    parent: { path: parent.path, sizeBytes: parent.file.sizeBytes, maxRank: parent.maxRank },
    dtype,
    notes: plan.notes,
    outputs: measured(plan),
    dryRun: true,
  };
}

function measured(plan: ResizePlan): ResizedFile[] {
  return plan.outputs.flatMap((output) => measureOutput(plan, output) ?? []);
}

const COLUMNS: readonly Column<Row>[] = [
  { title: "by", value: ({ rule }) => ruleSuffix(rule).slice(1) },
  { title: "rank", align: "right", value: ({ ranks }) => formatRanks(ranks) },
  { title: "error", align: "right", value: ({ relativeError }) => formatPercent(100 * relativeError) },
  {
    title: "worst module",
    align: "right",
    value: ({ modules }) => formatPercent(100 * Math.max(...modules.map((module) => module.relativeError))),
  },
  { title: "file", value: ({ path }) => formatPath(path), shorten: true },
  { title: "size", align: "right", value: ({ sizeBytes }) => formatBytes(sizeBytes) },
];

function head({ parent, dtype }: ResizePlan): string {
  const { path, maxRank, modules } = parent;
  return `${formatPath(path)}: rank ${maxRank}, ${formatQuantity(modules.length, "module")}, written as ${dtype}\n`;
}

function moduleTables(files: readonly ResizedFile[], out: OutputStream): string {
  return files
    .map(({ path, modules }) => {
      const table = renderTable(
        modules,
        [
          { title: "module", value: ({ name }) => printable(name), shorten: true },
          { title: "rank", align: "right", value: ({ rank, parentRank }) => `${rank} of ${parentRank}` },
          {
            title: "error",
            align: "right",
            value: ({ relativeError }) => formatPercent(100 * relativeError),
          },
        ],
        out,
      );
      return `\n${out.style.bold(formatPath(path))}\n${table}`;
    })
    .join("");
}

function notes(texts: readonly string[], out: OutputStream): string {
  return texts.map((text) => `${out.style.yellow("note")}: ${text}\n`).join("");
}
