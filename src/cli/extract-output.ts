import type { ExtractOutput, ExtractPlan, ExtractReport } from "../surgery/index.js";
import { formatBytes, formatPath } from "./format.js";
import { type MixedSections, mixedRanksText } from "./mixed-ranks-output.js";
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

interface Row
  extends Pick<ExtractOutput, "rank" | "componentRanks" | "mixed" | "alphas" | "path" | "sizeBytes"> {
  readonly dataSha256?: string;
}

/** What was written, as a table. */
export function extractText(
  plan: ExtractPlan,
  report: ExtractReport,
  shown: MixedSections,
  out: OutputStream,
): string {
  const columns = [...COMMON_COLUMNS];
  if (plan.hashes) {
    columns.push({ title: "hash", value: ({ dataSha256 = "" }) => dataSha256.slice(0, SHORT_HASH) });
  }
  const table = renderTable<Row>(withAlphas(plan, report), columns, out);
  return head(plan) + mixedText(plan, shown, out) + table + notes(report.notes, out);
}

/** What would be written, as a table. */
export function planText(plan: ExtractPlan, shown: MixedSections, out: OutputStream): string {
  const table = renderTable<Row>(plan.outputs, COMMON_COLUMNS, out);
  return `${head(plan)}${mixedText(plan, shown, out)}${table}${notes(plan.notes, out)}Nothing was written (--dry-run).\n`;
}

/** The report for `--json`. */
export function extractDocument(plan: ExtractPlan, report: ExtractReport): object {
  return { ...report, outputs: withAlphas(plan, report), dryRun: false };
}

/** The plan for `--json`, with the fields that the report has. */
export function planDocument(plan: ExtractPlan): object {
  const { parent, maxRank, unit, alphaRule, alphaRuleSource, dtype } = plan;
  return {
    parent: { path: parent.path, sizeBytes: parent.file.sizeBytes, maxRank },
    unit,
    alphaRule,
    alphaRuleSource,
    dtype,
    notes: plan.notes,
    outputs: plan.outputs.map(({ rank, componentRanks, mixed, path, sizeBytes, wholeModules, alphas }) => ({
      rank,
      componentRanks,
      mixed,
      path,
      sizeBytes,
      wholeModules,
      alphas,
    })),
    dryRun: true,
  };
}

const COMMON_COLUMNS: readonly Column<Row>[] = [
  { title: "rank", align: "right", value: formatRank },
  { title: "alpha", align: "right", value: formatAlphas },
  { title: "file", value: ({ path }) => formatPath(path), shorten: true },
  { title: "size", align: "right", value: ({ sizeBytes }) => formatBytes(sizeBytes) },
];

/** The plan and its report list the same copies in the same order. */
function withAlphas({ outputs }: ExtractPlan, report: ExtractReport) {
  return report.outputs.map((output, i) => ({ ...output, alphas: outputs[i]!.alphas }));
}

function head({ parent, maxRank, unit, alphaRule, alphaRuleSource, dtype }: ExtractPlan): string {
  const written = dtype === null ? "" : `, written as ${dtype}`;
  return `${formatPath(parent.path)}: rank ${maxRank}, unit ${unit}, alpha rule ${alphaRule} (${RULE_SOURCES[alphaRuleSource]})${written}\n`;
}

function formatRank({ rank, componentRanks, mixed }: Row): string {
  if (mixed !== undefined) return `${Math.min(...mixed.modules.map((module) => module.rank))} to ${rank}`;
  if (componentRanks === undefined) return String(rank);
  return Object.entries(componentRanks)
    .map(([component, own]) => `${component} ${own}`)
    .join(", ");
}

function notes(texts: readonly string[], out: OutputStream): string {
  return texts.map((text) => `${out.style.yellow("note")}: ${text}\n`).join("");
}

/** Ranks of components give one or two, ranks of modules any number. */
function formatAlphas({ alphas, mixed }: Row): string {
  if (mixed === undefined || alphas.length === 1) return alphas.map(formatAlpha).join(", ");
  return `${formatAlpha(alphas[0]!)} to ${formatAlpha(alphas.at(-1)!)}`;
}

function mixedText({ outputs }: ExtractPlan, shown: MixedSections, out: OutputStream): string {
  return outputs.map(({ mixed }) => (mixed === undefined ? "" : mixedRanksText(mixed, shown, out))).join("");
}

/** As many digits as matter. */
function formatAlpha(alpha: number): string {
  return String(Number(alpha.toPrecision(4)));
}
