import type { DiffModule, DiffReport, ListedWeight } from "../surgery/diff/diff.js";
import { formatBytes, formatPath, formatPercent, formatQuantity, formatRanks } from "./format.js";
import { printable } from "./printable.js";
import { type Column, renderFields, renderTable } from "./table.js";
import type { OutputStream } from "./terminal.js";

/** Enough of the hash to tell files apart, as long as Civitai's AutoV3. */
const SHORT_HASH = 12;

/** Weights of a list that are shown; `--json` has all. */
const LISTED = 10;

export function diffText(report: DiffReport, out: OutputStream): string {
  const { output, unchangedCount } = report;
  const fields: [string, string][] = [
    ["base", formatPath(report.basePath)],
    ["tuned", formatPath(report.tunedPath)],
  ];
  if (output !== null) {
    fields.push(["file", formatPath(output.path)]);
    fields.push([
      "size",
      `${formatBytes(output.sizeBytes)}, ${formatQuantity(report.modules.length, "module")}`,
    ]);
    fields.push(["hash", output.dataSha256.slice(0, SHORT_HASH)]);
    fields.push(["lost", `${formatPercent(100 * report.error!)} of the change, to the rank`]);
  }
  if (report.unheldShare > 0) {
    fields.push([
      "left out",
      `${formatPercent(100 * report.unheldShare)} of the change: what no module of the file stands for`,
    ]);
  }
  if (unchangedCount > 0) fields.push(["unchanged", formatQuantity(unchangedCount, "module")]);
  return [
    renderFields(fields),
    renderTable(componentRows(report.modules), componentColumns(), out),
    listText("Left out, below --min-diff", report.belowMinDiff),
    listText("No larger than what rounding makes", report.withinRounding),
    listText("Different, and nothing that a LoRA can hold", report.notRepresented),
    report.unpaired.length === 0 ? "" : `Only one model has: ${report.unpaired.join(", ")}\n`,
    output === null ? "Nothing was written (--dry-run).\n" : "",
  ].join("");
}

export function diffDocument(report: DiffReport): object {
  return { ...report, dryRun: report.output === null };
}

interface ComponentRow {
  readonly title: string;
  readonly modules: readonly DiffModule[];
}

function componentRows(modules: readonly DiffModule[]): ComponentRow[] {
  const groups = new Map<string, DiffModule[]>();
  for (const module of modules) {
    const title = `${module.component} ${module.kind}`;
    groups.set(title, [...(groups.get(title) ?? []), module]);
  }
  return [...groups].map(([title, group]) => ({ title, modules: group }));
}

function componentColumns(): Column<ComponentRow>[] {
  const range = (values: readonly (number | null)[]) => {
    const known = values.filter((value) => value !== null);
    if (known.length === 0) return "-";
    const [min, max] = [Math.min(...known), Math.max(...known)];
    return min === max
      ? formatPercent(100 * min)
      : `${formatPercent(100 * min)} - ${formatPercent(100 * max)}`;
  };
  return [
    { title: "modules", value: ({ title }) => title },
    { title: "count", align: "right", value: ({ modules }) => String(modules.length) },
    { title: "rank", align: "right", value: ({ modules }) => ranksText(modules) },
    {
      title: "changed by",
      align: "right",
      value: ({ modules }) => range(modules.map((module) => module.relativeChange)),
    },
    { title: "lost", align: "right", value: ({ modules }) => range(modules.map(({ error }) => error)) },
  ];
}

function ranksText(modules: readonly DiffModule[]): string {
  const ranks = modules.flatMap(({ rank }) => rank ?? []);
  return ranks.length === 0 ? "-" : formatRanks([Math.min(...ranks), Math.max(...ranks)]);
}

function listText(title: string, weights: readonly ListedWeight[]): string {
  if (weights.length === 0) return "";
  const lines = weights
    .toSorted((a, b) => (b.relativeChange ?? Infinity) - (a.relativeChange ?? Infinity))
    .slice(0, LISTED)
    .map(
      ({ part, name, relativeChange }) =>
        `  ${part} ${printable(name)}: ${relativeChange === null ? "zero before" : formatPercent(100 * relativeChange)}\n`,
    );
  const more = weights.length - lines.length;
  if (more > 0) lines.push(`  and ${more} more (--json lists all)\n`);
  return `${title} (${weights.length}):\n${lines.join("")}`;
}
