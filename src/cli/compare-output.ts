import type { ComparedModule, ComparedTotal, CompareReport } from "../surgery/compare/compare.js";
import { formatCount, formatPath, formatPercent, formatQuantity } from "./format.js";
import { printable } from "./printable.js";
import { type Column, renderFields, renderTable } from "./table.js";
import type { OutputStream } from "./terminal.js";

/** How many of the modules that differ most are shown unasked. */
const SHOWN_MODULES = 10;

const COMPONENT_NAMES: Readonly<Record<ComparedTotal["component"], string>> = {
  unet: "U-Net",
  text_encoder: "text encoder",
  text_encoder_2: "text encoder 2",
  all: "all",
};

/** Two adapters in totals, and the modules in which they differ most, or all of them. */
export function compareText(report: CompareReport, allModules: boolean, out: OutputStream): string {
  const { a, b, modules, totals } = report;
  const describe = ({ path, maxRank, moduleCount }: CompareReport["a"]) =>
    `${formatPath(path)}: rank ${maxRank}, ${formatQuantity(moduleCount, "module")}`;
  const shown = allModules ? modules : mostDifferent(modules);
  const title =
    shown.length < modules.length ? `The ${shown.length} modules that differ most` : "Every module";
  return [
    renderFields([
      ["A", describe(a)],
      ["B", describe(b)],
    ]),
    modules.length === 0 ? "\nNo module is in both.\n" : `\n${totalTable(totals, out)}`,
    modules.length === 0 ? "" : `\n${out.style.bold(title)}\n${moduleTable(shown, out)}`,
    missing(report, allModules, out),
  ].join("");
}

function mostDifferent(modules: readonly ComparedModule[]): readonly ComparedModule[] {
  const difference = (module: ComparedModule) => module.relativeDifference ?? Number.POSITIVE_INFINITY;
  return [...modules].sort((x, y) => difference(y) - difference(x)).slice(0, SHOWN_MODULES);
}

/** The same figures of totals and of modules. */
type Figures = Pick<
  ComparedModule,
  "norms" | "relativeDifference" | "cosine" | "columnOverlap" | "rowOverlap"
>;

const FIGURES: readonly Column<Figures>[] = [
  { title: "norm A", align: "right", value: ({ norms }) => significant(norms[0]) },
  { title: "norm B", align: "right", value: ({ norms }) => significant(norms[1]) },
  {
    title: "|A-B|/|A|",
    align: "right",
    value: ({ relativeDifference }) => differenceText(relativeDifference),
  },
  { title: "cosine", align: "right", value: ({ cosine }) => cosineText(cosine) },
  { title: "outputs", align: "right", value: ({ columnOverlap }) => overlapText(columnOverlap) },
  { title: "inputs", align: "right", value: ({ rowOverlap }) => overlapText(rowOverlap) },
];

function totalTable(totals: readonly ComparedTotal[], out: OutputStream): string {
  const table = renderTable<ComparedTotal>(
    totals,
    [
      { title: "component", value: ({ component }) => COMPONENT_NAMES[component] },
      { title: "modules", align: "right", value: ({ modules }) => formatCount(modules) },
      ...FIGURES,
    ],
    out,
  );
  return `${table}outputs, inputs: overlap of the spaces that the modules write to and read from, 1 for the same\n`;
}

function moduleTable(modules: readonly ComparedModule[], out: OutputStream): string {
  return renderTable<ComparedModule>(
    modules,
    [
      { title: "module", value: ({ name }) => printable(name), shorten: true },
      {
        title: "rank",
        align: "right",
        value: ({ ranks: [a, b] }) => (a === b ? String(a) : `${a}, ${b}`),
      },
      ...FIGURES,
    ],
    out,
  );
}

function missing(report: CompareReport, all: boolean, out: OutputStream): string {
  const list = (names: readonly string[], what: string) => {
    if (names.length === 0) return "";
    const shown = all ? names : names.slice(0, 3);
    const more = shown.length < names.length ? ", …" : "";
    return `${out.style.yellow("note")}: ${formatQuantity(names.length, "module")} ${what}: ${shown.map(printable).join(", ")}${more}\n`;
  };
  return [
    list(report.onlyInA, "only in A"),
    list(report.onlyInB, "only in B"),
    list(report.differentShapes, "of different sizes, for different base models"),
  ].join("");
}

/** Far below what any number in a file can be told from another by: the rounding of the arithmetic here. */
const NOTHING = 1e-12;

function differenceText(difference: number | null): string {
  if (difference === null) return "-";
  return difference < NOTHING ? "0 %" : formatPercent(100 * difference);
}

function cosineText(cosine: number | null): string {
  if (cosine === null) return "-";
  const text = cosine.toFixed(4);
  return Number(text) === 0 ? "0.0000" : text;
}

function overlapText(overlap: number | null): string {
  return overlap === null ? "-" : overlap.toFixed(3);
}

function significant(value: number): string {
  return String(Number(value.toPrecision(4)));
}
