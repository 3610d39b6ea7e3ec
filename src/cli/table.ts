import Table from "cli-table3";
import type { OutputStream } from "./terminal.js";

export interface Column<Row> {
  readonly title: string;
  readonly value: (row: Row) => string;
  /** Numbers stand right. Default left. */
  readonly align?: "left" | "right";
  /** May be shortened where the terminal is too narrow; its end is what matters (a path). */
  readonly shorten?: true;
}

/** Shortest that a shortened column gets. */
const MIN_WIDTH = 12;
const GAP = 2;

/** A table without frames, no wider than the terminal where a column may be shortened. Ends with a line break. */
export function renderTable<Row>(
  rows: readonly Row[],
  columns: readonly Column<Row>[],
  out: OutputStream,
): string {
  const cells = rows.map((row) => columns.map((column) => column.value(row)));
  const widths = columns.map((column, index) =>
    Math.max(column.title.length, ...cells.map((line) => visibleLength(line[index] ?? ""))),
  );
  if (out.isTerminal) shrink(widths, columns, out.columns);
  const table = new Table({
    head: columns.map((column) => out.style.bold(column.title)),
    chars: NO_FRAME,
    style: { head: [], border: [], "padding-left": 0, "padding-right": GAP },
    colAligns: columns.map((column) => column.align ?? "left"),
    colWidths: widths.map((width) => width + GAP),
  });
  for (const line of cells) table.push(line.map((cell, index) => shortenStart(cell, widths[index] ?? 0)));
  const lines = table.toString().split("\n");
  return `${lines.map((line) => line.trimEnd()).join("\n")}\n`;
}

const NO_FRAME = {
  top: "",
  "top-mid": "",
  "top-left": "",
  "top-right": "",
  bottom: "",
  "bottom-mid": "",
  "bottom-left": "",
  "bottom-right": "",
  left: "",
  "left-mid": "",
  mid: "",
  "mid-mid": "",
  right: "",
  "right-mid": "",
  middle: "",
};

function shrink<Row>(widths: number[], columns: readonly Column<Row>[], available: number): void {
  const excess = widths.reduce((sum, width) => sum + width + GAP, 0) - available;
  const shortened = columns.findIndex((column) => column.shorten);
  if (excess <= 0 || shortened < 0) return;
  widths[shortened] = Math.max(MIN_WIDTH, (widths[shortened] ?? 0) - excess);
}

/** Keeps the end of a text: the end of a path names the file. */
function shortenStart(text: string, width: number): string {
  return visibleLength(text) <= width ? text : `…${text.slice(text.length - width + 1)}`;
}

function visibleLength(text: string): number {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colour codes begin with the escape character.
  return text.replace(/\x1b\[\d+m/g, "").length;
}

/** Lines of `name  value`, values aligned. Ends with a line break; "" for no lines. */
export function renderFields(
  fields: readonly (readonly [name: string, value: string])[],
  indent = "",
): string {
  const width = Math.max(0, ...fields.map(([name]) => name.length));
  return fields.map(([name, value]) => `${indent}${name.padEnd(width)}  ${value}\n`).join("");
}
