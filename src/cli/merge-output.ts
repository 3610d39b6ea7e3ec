import type { MergeBasePlan, MergeBaseReport } from "../surgery/merge/base.js";
import type { MergePlan, MergeReport } from "../surgery/merge/merge.js";
import { rankRange } from "../surgery/merge/merge.js";
import type { MergeInput } from "../surgery/merge/terms.js";
import {
  formatBytes,
  formatCount,
  formatPath,
  formatPercent,
  formatQuantity,
  formatRanks,
} from "./format.js";
import { type Column, renderFields, renderTable } from "./table.js";
import type { OutputStream } from "./terminal.js";

/** Enough of the hash to tell files apart, as long as Civitai's AutoV3. */
const SHORT_HASH = 12;

/** What was written: the files that went in, and what came out. */
export function mergeText(plan: MergePlan, report: MergeReport, out: OutputStream): string {
  const { worstTruncation: cut, worstRounding: rounding } = report;
  const fields: [string, string][] = [...planFields(plan), ["hash", report.dataSha256.slice(0, SHORT_HASH)]];
  if (cut !== null)
    fields.push(["cut off", `up to ${formatPercent(100 * cut.error)} of a module (${cut.module})`]);
  fields.push([
    "rounding",
    rounding === 0 ? "none" : `up to ${formatPercent(100 * rounding)} of a factor (--dtype F32 avoids it)`,
  ]);
  return inputTable(plan.inputs, out) + renderFields(fields) + notes(report.notes, out);
}

export function mergePlanText(plan: MergePlan, out: OutputStream): string {
  const fields = renderFields(planFields(plan));
  return `${inputTable(plan.inputs, out)}${fields}${notes(plan.notes, out)}Nothing was written (--dry-run).\n`;
}

export function mergeDocument(report: MergeReport): object {
  return { ...report, dryRun: false };
}

/** The plan for `--json`, with the fields that the report has. */
export function mergePlanDocument({
  inputs,
  path,
  sizeBytes,
  modules,
  dtype,
  sum,
  notes: texts,
}: MergePlan): object {
  return {
    path,
    sizeBytes,
    inputs: inputs.map(inputFacts),
    moduleCount: modules.length,
    ranks: rankRange(modules),
    dtype,
    silenced: sum.silenced,
    notes: texts,
    dryRun: true,
  };
}

export function mergeBaseText(plan: MergeBasePlan, report: MergeBaseReport, out: OutputStream): string {
  const fields: [string, string][] = [
    ...baseFields(plan),
    [
      "rounding",
      `${formatPercent(100 * report.rounding)} of the change, for the type of the model's weights`,
    ],
  ];
  if (report.dataSha256 !== null) fields.push(["hash", report.dataSha256.slice(0, SHORT_HASH)]);
  return inputTable(plan.inputs, out) + renderFields(fields) + notes(report.notes, out);
}

export function mergeBasePlanText(plan: MergeBasePlan, out: OutputStream): string {
  const fields = renderFields(baseFields(plan));
  return `${inputTable(plan.inputs, out)}${fields}${notes(plan.notes, out)}Nothing was written (--dry-run).\n`;
}

export function mergeBaseDocument(report: MergeBaseReport): object {
  return { ...report, dryRun: false };
}

/** The plan for `--json`, with the fields that the report has. */
export function mergeBasePlanDocument(plan: MergeBasePlan): object {
  const { path, base, inputs, sum, changedTensors, sizeBytes } = plan;
  return {
    path,
    layout: base.layout,
    sizeBytes,
    inputs: inputs.map(inputFacts),
    changedModules: sum.modules.length,
    changedTensors,
    silenced: sum.silenced,
    notes: plan.notes,
    dryRun: true,
  };
}

function inputFacts({ adapter, ratio }: MergeInput) {
  return { path: adapter.path, ratio };
}

function planFields({ path, sizeBytes, modules, dtype }: MergePlan): [string, string][] {
  return [
    ["file", formatPath(path)],
    ["size", `${formatBytes(sizeBytes)}, ${formatQuantity(modules.length, "module")}, ${dtype}`],
    ["rank", formatRanks(rankRange(modules))],
  ];
}

function baseFields({ path, base, sum, changedTensors, sizeBytes }: MergeBasePlan): [string, string][] {
  return [
    ["base", formatPath(base.path)],
    [base.layout === "diffusers" ? "folder" : "file", formatPath(path)],
    ["size", formatBytes(sizeBytes)],
    [
      "changed",
      `${formatQuantity(sum.modules.length, "module")} in ${formatQuantity(changedTensors, "tensor")}`,
    ],
  ];
}

function inputTable(inputs: readonly MergeInput[], out: OutputStream): string {
  const columns: Column<MergeInput>[] = [
    { title: "ratio", align: "right", value: ({ ratio }) => String(Number(ratio.toPrecision(6))) },
    {
      title: "rank",
      align: "right",
      value: ({ adapter }) => formatRanks(rankRange(adapter.modules)),
    },
    { title: "modules", align: "right", value: ({ adapter }) => formatCount(adapter.modules.length) },
    { title: "adapter", value: ({ adapter }) => formatPath(adapter.path), shorten: true },
  ];
  return renderTable(inputs, columns, out);
}

function notes(texts: readonly string[], out: OutputStream): string {
  return texts.map((text) => `${out.style.yellow("note")}: ${text}\n`).join("");
}
