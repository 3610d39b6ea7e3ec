import { type ExtractPlan, type ExtractReport, extractedAlpha } from "../surgery/index.js";
import { formatBytes, formatPath } from "./format.js";
import { type Column, renderTable } from "./table.js";
import type { OutputStream } from "./terminal.js";

const RULE_SOURCES: Readonly<Record<ExtractPlan["alphaRuleSource"], string>> = {
  option: "from --alpha-rule",
  metadata: "from its metadata",
  trainer: "its trainer's",
  assumed: "assumed",
};

/** Enough of the hash to tell files apart, as long as Civitai's AutoV3. */
const SHORT_HASH = 12;

interface Row {
  readonly rank: number;
  readonly path: string;
  readonly sizeBytes: number;
  readonly dataSha256?: string;
}

/** What was written, as a table. */
export function extractText(plan: ExtractPlan, report: ExtractReport, out: OutputStream): string {
  const columns: Column<Row>[] = [
    ...commonColumns(plan),
    { title: "hash", value: ({ dataSha256 = "" }) => dataSha256.slice(0, SHORT_HASH) },
  ];
  return head(plan) + renderTable<Row>(report.outputs, columns, out) + notes(report.notes, out);
}

/** What would be written, as a table. */
export function planText(plan: ExtractPlan, out: OutputStream): string {
  const table = renderTable<Row>(plan.outputs, commonColumns(plan), out);
  return `${head(plan)}${table}${notes(plan.notes, out)}Nothing was written (--dry-run).\n`;
}

/** The report for `--json`. */
export function extractDocument(plan: ExtractPlan, report: ExtractReport): object {
  const outputs = report.outputs.map((output) => ({ ...output, alphas: alphasAt(plan, output.rank) }));
  return { ...report, outputs, dryRun: false };
}

/** The plan for `--json`, with the fields that the report has. */
export function planDocument(plan: ExtractPlan): object {
  const { parent, maxRank, unit, alphaRule, alphaRuleSource } = plan;
  return {
    parent: { path: parent.path, sizeBytes: parent.file.sizeBytes, maxRank },
    unit,
    alphaRule,
    alphaRuleSource,
    notes: plan.notes,
    outputs: plan.outputs.map(({ rank, path, sizeBytes, wholeModules }) => ({
      rank,
      path,
      sizeBytes,
      wholeModules,
      alphas: alphasAt(plan, rank),
    })),
    dryRun: true,
  };
}

function commonColumns(plan: ExtractPlan): Column<Row>[] {
  return [
    { title: "rank", align: "right", value: ({ rank }) => String(rank) },
    { title: "alpha", align: "right", value: ({ rank }) => alphasAt(plan, rank).map(formatAlpha).join(", ") },
    { title: "file", value: ({ path }) => formatPath(path), shorten: true },
    { title: "size", align: "right", value: ({ sizeBytes }) => formatBytes(sizeBytes) },
  ];
}

function head({ parent, maxRank, unit, alphaRule, alphaRuleSource }: ExtractPlan): string {
  return `${formatPath(parent.path)}: rank ${maxRank}, unit ${unit}, alpha rule ${alphaRule} (${RULE_SOURCES[alphaRuleSource]})\n`;
}

function notes(texts: readonly string[], out: OutputStream): string {
  return texts.map((text) => `${out.style.yellow("note")}: ${text}\n`).join("");
}

/** The distinct alphas of a copy's modules, ascending. */
function alphasAt({ parent, unit, alphaRule }: ExtractPlan, rank: number): number[] {
  const alphas = parent.modules.map(({ alpha, rank: fullRank }) =>
    extractedAlpha(alphaRule, { alpha, rank: fullRank, unit }, Math.min(rank, fullRank)),
  );
  return [...new Set(alphas)].sort((a, b) => a - b);
}

/** As many digits as matter. */
function formatAlpha(alpha: number): string {
  return String(Number(alpha.toPrecision(4)));
}
