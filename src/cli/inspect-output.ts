import { BASE_MODEL_TITLES } from "../adapter/base-model.js";
import { DIALECTS } from "../adapter/dialects/index.js";
import type { AlphaRule, BaseModelFacts } from "../adapter/index.js";
import { FOREIGN_METHODS } from "../adapter/module.js";
import type { AdapterReport, EnergyReport, ModuleGroupReport, Range } from "../surgery/index.js";
import { formatBytes, formatCount, formatPath, formatQuantity } from "./format.js";
import { printable } from "./printable.js";
import { type Column, renderFields, renderTable } from "./table.js";
import type { OutputStream } from "./terminal.js";

export interface InspectSections {
  readonly modules: boolean;
  readonly tensors: boolean;
  readonly metadata: boolean;
}

/** A file in sections: what it is, its modules, the energy of its ranks, and on request everything by name. */
export function inspectText(report: AdapterReport, sections: InspectSections, out: OutputStream): string {
  const { bold } = out.style;
  const section = (title: string, body: string) => `\n${bold(title)}\n${body}`;
  return [
    `${bold(formatPath(report.path))}\n${renderFields(facts(report), "  ")}`,
    warnings(report)
      .map((text) => `${out.style.yellow("note")}: ${text}\n`)
      .join(""),
    section("Modules", groupTable(report, out)),
    report.energy === null
      ? ""
      : section("Share of the full rank's squared norm", energyTable(report.energy, out)),
    sections.modules ? section("Every module", moduleTable(report, out)) : "",
    sections.tensors ? section("Every tensor", tensorTable(report, out)) : "",
    sections.metadata ? section("Metadata", metadataText(report)) : "",
    "\n",
  ].join("");
}

function facts(report: AdapterReport): [string, string][] {
  const { dylora, hash } = report;
  const dtypes = Object.entries(report.dtypes).map(([dtype, count]) => `${count} ${dtype}`);
  const entries = Object.keys(report.metadata).length;
  const title = DIALECTS.find(({ id }) => id === report.dialect)?.title ?? report.dialect;
  const lines: [string, string][] = [
    [
      "file",
      `${formatBytes(report.fileSizeBytes)}, header ${formatBytes(report.headerSizeBytes)}, ${formatQuantity(report.tensors.length, "tensor")}: ${dtypes.join(", ")}`,
    ],
    ["names", title],
    ["base model", baseModelText(report.baseModel)],
    ["parameters", formatCount(report.parameters)],
    ["kind", dylora.isDylora ? dyloraText(report) : `LoRA, rank ${rangeText(ranksOf(report))}`],
  ];
  if (dylora.isDylora) lines.push(["alpha rule", alphaRuleText(dylora.alphaRule, dylora.alphaRuleSource)]);
  lines.push(["hash", hashText(hash)]);
  lines.push([
    "metadata",
    entries === 0 ? "none" : `${formatQuantity(entries, "entry", "entries")} (--metadata shows them)`,
  ]);
  return lines;
}

function baseModelText({ stated, fromMetadata, fromShapes, predictionType }: BaseModelFacts): string {
  const known = fromShapes ?? fromMetadata;
  const prediction =
    predictionType === null ? "" : `, ${predictionType === "epsilon" ? "epsilon" : "v"} prediction`;
  const source = stated === null ? "from its shapes" : `metadata: ${printable(stated)}`;
  return known === null ? "unknown" : `${BASE_MODEL_TITLES[known]}${prediction} (${source})`;
}

function dyloraText({ dylora }: AdapterReport): string {
  const parts = [`DyLoRA, maximum rank ${dylora.maxRank}`];
  if (dylora.unit !== null) parts.push(`unit ${dylora.unit}`);
  if (dylora.updateMode !== null) parts.push(`update mode ${dylora.updateMode}`);
  if (dylora.trainedRanks !== null) parts.push(`trained ranks ${dylora.trainedRanks.join(", ")}`);
  return parts.join(", ");
}

const RULES: Readonly<Record<AlphaRule, string>> = {
  paper: "alpha stays the same at every rank",
  "sd-scripts": "alpha · sqrt(b / R) at rank b of R",
  lycoris: "alpha · unit at every rank",
  keep: "alpha · b / R at rank b of R",
};

function alphaRuleText(rule: AlphaRule, source: string): string {
  if (source === "unknown") return "unknown: `extract` needs --alpha-rule";
  const sources: Readonly<Record<string, string>> = {
    metadata: "from the metadata",
    trainer: "its trainer's",
    assumed: "assumed",
  };
  return `${rule}: ${RULES[rule]} (${sources[source] ?? source})`;
}

function hashText({ stated, computed, matches }: AdapterReport["hash"]): string {
  if (matches === true) return `${stated} (verified)`;
  if (matches === false) return `${printable(stated ?? "")} in the metadata, but the data have ${computed}`;
  if (computed !== null) return `${computed} (the metadata has none)`;
  return stated === null ? "none in the metadata" : `${printable(stated)} (--verify-hash checks it)`;
}

/** What the user should know before using the file. */
function warnings(report: AdapterReport): string[] {
  const { dylora, baseModel, foreignModules, unknownTensors, modules, hash } = report;
  const notes = dylora.problems.map((problem) => `metadata: ${printable(problem)}.`);
  const { fromMetadata, fromShapes } = baseModel;
  if (fromMetadata !== null && fromShapes !== null && fromMetadata !== fromShapes) {
    notes.push(
      `The metadata says ${BASE_MODEL_TITLES[fromMetadata]}, the shapes are those of ${BASE_MODEL_TITLES[fromShapes]}.`,
    );
  }
  if (foreignModules.length > 0) {
    const methods = [...new Set(foreignModules.flatMap((module) => module.methods))];
    const names = methods.map((method) => FOREIGN_METHODS[method]).join(", ");
    notes.push(
      `Modules that are no plain LoRA: ${foreignModules.length} (${names}). dylora cannot work on them.`,
    );
  }
  if (unknownTensors.length > 0) {
    const some = unknownTensors.slice(0, 3).map(printable).join(", ");
    const more = unknownTensors.length > 3 ? ", …" : "";
    notes.push(`Tensors with unknown names: ${unknownTensors.length} (${some}${more}).`);
  }
  const notFinite = modules.filter(({ norm }) => norm !== null && !Number.isFinite(norm)).length;
  if (notFinite > 0)
    notes.push(`Modules with numbers that are not finite: ${notFinite}. The training diverged.`);
  const zero = modules.filter(({ norm }) => norm === 0).length;
  if (zero > 0) notes.push(`Modules that add nothing (norm 0): ${zero} of ${modules.length}.`);
  if (hash.matches === false) notes.push("The data were changed after the hash was stored.");
  return notes;
}

const COMPONENT_NAMES: Readonly<Record<string, string>> = {
  unet: "U-Net",
  text_encoder: "text encoder",
  text_encoder_2: "text encoder 2",
  all: "all",
};
const KIND_NAMES = { linear: "linear", conv1x1: "conv 1x1", conv3x3: "conv 3x3" } as const;

function groupTable(report: AdapterReport, out: OutputStream): string {
  const { groups, modules } = report;
  const columns: Column<ModuleGroupReport>[] = [
    { title: "component", value: ({ component }) => COMPONENT_NAMES[component] ?? component },
    { title: "kind", value: ({ kind }) => KIND_NAMES[kind] },
    { title: "modules", align: "right", value: (group) => formatCount(group.modules) },
    { title: "rank", align: "right", value: ({ ranks }) => rangeText(ranks) },
    { title: "alpha", align: "right", value: ({ alphas }) => rangeText(alphas) },
    { title: "parameters", align: "right", value: ({ parameters }) => formatCount(parameters) },
  ];
  const normed = modules.some(({ norm }) => norm !== null);
  if (normed) columns.push({ title: "norm", align: "right", value: (group) => normRange(report, group) });
  const hint = normed || modules.length === 0 ? "" : "--norms computes how much each adds.\n";
  return renderTable(groups, columns, out) + hint;
}

function normRange({ modules }: AdapterReport, { component, kind }: ModuleGroupReport): string {
  const norms = modules
    .filter((module) => module.component === component && module.kind === kind)
    .map(({ norm }) => norm ?? Number.NaN);
  const [least, most] = [Math.min(...norms), Math.max(...norms)].map(formatNorm);
  return least === most ? String(least) : `${least} to ${most}`;
}

/** A DyLoRA of unit 1 has a row for every rank; this many are enough to see the curve. */
const MAX_ENERGY_ROWS = 16;

function energyTable(energy: readonly EnergyReport[], out: OutputStream): string {
  const all = energy[0]?.prefixes ?? [];
  const every = Math.ceil(all.length / MAX_ENERGY_ROWS);
  // Counted from the end: the full rank is always there.
  const rows = all.map((_, index) => index).filter((index) => (all.length - 1 - index) % every === 0);
  const columns: Column<number>[] = [
    { title: "rank", align: "right", value: (index) => String(all[index]?.rank) },
    ...energy.map(
      ({ component, prefixes }): Column<number> => ({
        title: COMPONENT_NAMES[component] ?? component,
        align: "right",
        value: (index) => `${(100 * (prefixes[index]?.share ?? Number.NaN)).toFixed(1)} %`,
      }),
    ),
  ];
  return renderTable(rows, columns, out);
}

function moduleTable({ modules }: AdapterReport, out: OutputStream): string {
  type Module = AdapterReport["modules"][number];
  const columns: Column<Module>[] = [
    { title: "name", value: ({ name }) => printable(name), shorten: true },
    { title: "kind", value: ({ kind }) => KIND_NAMES[kind] },
    { title: "rank", align: "right", value: ({ rank }) => String(rank) },
    { title: "alpha", align: "right", value: ({ alpha }) => formatAlpha(alpha) },
    { title: "in", align: "right", value: ({ inFeatures }) => String(inFeatures) },
    { title: "out", align: "right", value: ({ outFeatures }) => String(outFeatures) },
  ];
  if (modules.some(({ norm }) => norm !== null)) {
    columns.push({
      title: "norm",
      align: "right",
      value: ({ norm }) => (norm === null ? "-" : formatNorm(norm)),
    });
  }
  return renderTable(modules, columns, out);
}

function tensorTable({ tensors }: AdapterReport, out: OutputStream): string {
  return renderTable(
    tensors,
    [
      { title: "name", value: ({ name }) => printable(name), shorten: true },
      { title: "type", value: ({ dtype }) => dtype },
      { title: "shape", value: ({ shape }) => `[${shape.join(", ")}]` },
      { title: "bytes", align: "right", value: ({ sizeBytes }) => formatCount(sizeBytes) },
    ],
    out,
  );
}

function metadataText({ metadata }: AdapterReport): string {
  const entries = Object.entries(metadata);
  if (entries.length === 0) return "  none\n";
  return renderFields(
    entries.map(([key, value]) => [printable(key), printable(value)]),
    "  ",
  );
}

function ranksOf({ groups }: AdapterReport): Range {
  const ranks = groups.flatMap((group) => [group.ranks.min, group.ranks.max]);
  return { min: Math.min(...ranks), max: Math.max(...ranks) };
}

function rangeText({ min, max }: Range): string {
  return min === max ? formatAlpha(min) : `${formatAlpha(min)} to ${formatAlpha(max)}`;
}

/** Alphas that were rounded to float16 show the digits that matter. */
function formatAlpha(value: number): string {
  return String(Number(value.toPrecision(4)));
}

function formatNorm(norm: number): string {
  return Number.isFinite(norm) ? String(Number(norm.toPrecision(3))) : "not finite";
}
