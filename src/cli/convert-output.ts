import { DIALECTS, type DialectId } from "../adapter/index.js";
import type { ConvertReport } from "../surgery/convert/convert.js";
import type { ConvertPlan } from "../surgery/convert/plan.js";
import { formatBytes, formatPath, formatQuantity } from "./format.js";
import { printable } from "./printable.js";
import { type Column, renderTable } from "./table.js";
import type { OutputStream } from "./terminal.js";

/** Enough of the hash to tell files apart, as long as Civitai's AutoV3. */
const SHORT_HASH = 12;

/** Modules without a name that are listed; `--json` lists all. */
const LISTED_ITEMS = 20;

interface Row {
  readonly path: string;
  readonly sizeBytes: number;
  readonly dataSha256?: string;
}

/** What was written, as a table. */
export function convertText(report: ConvertReport, out: OutputStream): string {
  const head = headline(report.source.path, report.source.dialect, report.to, report);
  const columns: Column<Row>[] = [
    ...commonColumns(),
    { title: "hash", value: ({ dataSha256 = "" }) => dataSha256.slice(0, SHORT_HASH) },
  ];
  const kept = unmappedText(report.unmapped, "Carried over under their own names");
  return head + renderTable<Row>(report.outputs, columns, out) + kept + notes(report.notes, out);
}

/** What would be written, as a table. */
export function convertPlanText(plan: ConvertPlan, out: OutputStream): string {
  const head = headline(plan.source.path, plan.source.dialect, plan.to, plan);
  const isRefused = plan.unmapped.length > 0 && !plan.keepUnknown;
  const unmapped = unmappedText(
    plan.unmapped,
    isRefused
      ? "Without a name in the other dialect (--keep-unknown carries them over)"
      : "Carried over under their own names",
  );
  const table = renderTable<Row>(plan.parts, commonColumns(), out);
  const end = isRefused ? "The conversion would be refused" : "Nothing was written";
  return `${head}${isRefused ? "" : table}${unmapped}${notes(plan.notes, out)}${end} (--dry-run).\n`;
}

/** The report for `--json`. */
export function convertDocument({ isReturn, ...report }: ConvertReport): object {
  return { ...report, returns: isReturn, dryRun: false };
}

/** The plan for `--json`, with the fields that the report has. */
export function convertPlanDocument(plan: ConvertPlan): object {
  const { source, to, path, mappedModules, unmapped, keepUnknown, isReturn, parts } = plan;
  return {
    source: { path: source.path, dialect: source.dialect },
    to,
    path,
    mappedModules,
    unmapped: unmapped.map(({ name, reason }) => ({ name, reason })),
    notes: plan.notes,
    outputs: parts.map(({ path: file, sizeBytes }) => ({ path: file, sizeBytes })),
    wouldBeRefused: unmapped.length > 0 && !keepUnknown,
    returns: isReturn,
    dryRun: true,
  };
}

function headline(
  path: string,
  from: DialectId,
  to: DialectId,
  { mappedModules, unmapped, isReturn }: Pick<ConvertReport, "mappedModules" | "unmapped" | "isReturn">,
): string {
  const title = (id: DialectId) => DIALECTS.find((dialect) => dialect.id === id)?.title ?? id;
  const counts = [`${formatQuantity(mappedModules, "module")} mapped`];
  if (unmapped.length > 0) counts.push(`${unmapped.length} not`);
  const back = isReturn ? " (back to the form that it had)" : "";
  return `${formatPath(path)}: ${title(from)} to ${title(to)}${back}, ${counts.join(", ")}\n`;
}

function commonColumns(): Column<Row>[] {
  return [
    { title: "file", value: ({ path }) => formatPath(path), shorten: true },
    { title: "size", align: "right", value: ({ sizeBytes }) => formatBytes(sizeBytes) },
  ];
}

function unmappedText(unmapped: ConvertReport["unmapped"], title: string): string {
  if (unmapped.length === 0) return "";
  const lines = unmapped
    .slice(0, LISTED_ITEMS)
    .map(({ name, reason }) => `  ${printable(name)}: ${printable(reason)}\n`);
  const more = unmapped.length - lines.length;
  if (more > 0) lines.push(`  and ${more} more (--json lists all)\n`);
  return `${title}:\n${lines.join("")}`;
}

function notes(texts: readonly string[], out: OutputStream): string {
  return texts.map((text) => `${out.style.yellow("note")}: ${text}\n`).join("");
}
