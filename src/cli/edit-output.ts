import type { EditReport, MetadataChange } from "../surgery/edit/edit.js";
import { formatBytes, formatPath, formatQuantity } from "./format.js";
import { printable } from "./printable.js";
import { renderFields } from "./table.js";
import type { OutputStream } from "./terminal.js";

/** Longest value that a list of changes shows whole. */
const SHOWN_CHARACTERS = 60;

/** Every key with its value, whole. */
export function metadataText(metadata: Readonly<Record<string, string>> | null): string {
  const entries = Object.entries(metadata ?? {});
  if (entries.length === 0) return "no metadata\n";
  return renderFields(entries.map(([key, value]) => [printable(key), printable(value)]));
}

export function editText(report: EditReport, out: OutputStream): string {
  const wrong =
    report.hashMatched === false
      ? `${out.style.yellow("note")}: sshs_model_hash was not the hash of the data; it is now.\n`
      : "";
  const head = `${formatPath(report.path)}: ${formatBytes(report.sizeBytes)}, ${formatQuantity(report.changes.length, "change")}\n`;
  return head + changesText(report.changes) + wrong;
}

export function changesText(changes: readonly MetadataChange[]): string {
  if (changes.length === 0) return "  nothing changes\n";
  const lines = changes.map(({ key, before, after }): string => {
    const name = printable(key);
    if (after === null) return `  - ${name}: ${shown(before!)}\n`;
    return before === null
      ? `  + ${name}: ${shown(after)}\n`
      : `  ~ ${name}: ${shown(before)} -> ${shown(after)}\n`;
  });
  return lines.join("");
}

export function editDocument(report: EditReport): object {
  return { ...report, dryRun: false };
}

function shown(value: string): string {
  const text = printable(value);
  return text.length <= SHOWN_CHARACTERS ? text : `${text.slice(0, SHOWN_CHARACTERS - 1)}…`;
}
