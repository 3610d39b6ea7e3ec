/** A rank comparison as a page. */

import type { BenchReport, FileResult } from "../../evaluation/bench-types.js";
import { isMix } from "../../evaluation/rank-name.js";
import { formatBytes, formatCount, formatLoss, formatQuantity } from "../../format.js";
import { energyByRank, energyHeatMap } from "../energy/energy-figures.js";
import type { EnergyMap } from "../energy/energy-map.js";
import { figure } from "../figure.js";
import { type Html, html } from "../html.js";
import { renderPage, section } from "../page.js";
import { type PictureGrid, pictureGrid } from "../pictures/picture-grid.js";
import { dataTable } from "../table.js";
import { headline, summary } from "./headline.js";
import { lossByBand } from "./loss-by-band.js";
import { lossByRank } from "./loss-by-rank.js";
import { rankOf, resultAt } from "./points.js";
import { fileTable, imageTable, settingsList } from "./settings.js";
import { sizeAgainstQuality } from "./size-against-quality.js";
import { lossByStrength } from "./strength.js";
import { percent, resultTable } from "./tables.js";

export interface BenchPageContent {
  readonly report: BenchReport;
  /** One for each file of the report; null where a file could not be read any more. */
  readonly energy: readonly (EnergyMap | null)[];
  /** Null: none were drawn. */
  readonly pictures: PictureGrid | null;
}

/** @returns a whole HTML document */
export function benchPage({ report, energy, pictures }: BenchPageContent): string {
  const { files, extent, settings } = report;
  const names = files.map(({ name }) => name).join(", ");
  const title = headline(report);
  const figures = [
    lossByRank(report),
    sizeAgainstQuality(report),
    lossByBand(report),
    ...files.map((_, index) => lossByStrength(report, index)),
  ];
  return renderPage({
    title: `${title} – ${names}`,
    headline: title,
    kicker: `${names}, compared on ${formatQuantity(extent.imageCount, "held-out image")} with ${settings.modelPath.split(/[/\\]/).at(-1)}`,
    lede: html`<p>${summary(report)}</p>
${report.warnings.map(
  (warning) => html`<p class="warning">${warning}</p>
`,
)}`,
    date: report.date,
    refreshSeconds: null,
    body: [
      keyFigures(report),
      section(
        "ranks",
        "Which rank?",
        html`<p>${report.recommendation.reason}</p>
${files.map(({ name, versusUniform }) =>
  versusUniform
    ? html`<p>${name}: ${versusUniform.sentence}</p>
`
    : null,
)}`,
        figures.filter((entry) => entry !== null).map(figure),
      ),
      pictures === null ? null : section("see", "See for yourself", pictureGrid(pictures)),
      energySection(report, energy),
      section(
        "numbers",
        "All numbers",
        dataTable({ ...resultTable(report), id: "results" }),
        imageTable(report),
      ),
      section("settings", "How it was measured", settingsList(report), fileTable(report)),
    ],
  });
}

function keyFigures(report: BenchReport): Html {
  const { files, recommendation, base, extent } = report;
  const file = files[recommendation.file]!;
  const entry = rankOf(file, recommendation.rank);
  const result = resultAt(entry, recommendation.multiplier);
  const tiles: (readonly [string, string, string])[] = [
    ["Recommended", ...recommendedText(file, entry.rank, files.length > 1)],
    [
      "File size",
      formatBytes(entry.fileSizeBytes),
      entry.rank === file.maxRank
        ? "the full rank"
        : `${percent(100 * entry.relativeSize)} of rank ${file.maxRank}`,
    ],
    ["Loss", formatLoss(result.meanLoss), `base model ${formatLoss(base.meanLoss)}`],
    [
      "Measured on",
      formatQuantity(extent.imageCount, "image"),
      `${formatCount(extent.sampleCount)} losses for each rank`,
    ],
  ];
  return html`<dl class="tiles">
${tiles.map(
  ([name, value, note]) => html`<div><dt>${name}</dt><dd>${value} <small>${note}</small></dd></div>
`,
)}</dl>
`;
}

/** What is recommended, and of what. */
function recommendedText(file: FileResult, rank: number, several: boolean): [string, string] {
  const ofFile = several ? `, ${file.name}` : "";
  if (isMix(file, rank)) return [`up to ${rank}`, `a mix of ranks${ofFile}`];
  return [`rank ${rank}`, `of ${file.maxRank}${ofFile}`];
}

/** The recommended rank; null for a mix, which is no place on an axis of ranks. */
function uniformRank({ recommendation, ...file }: FileResult): number | null {
  return isMix(file, recommendation.rank) ? null : recommendation.rank;
}

function energySection({ files }: BenchReport, energy: readonly (EnergyMap | null)[]): Html | null {
  const parts = files.flatMap((file, index): Html[] => {
    const map = energy[index];
    if (!map) return [];
    const figures = [
      energyHeatMap(map, `energy-map-${index + 1}`, file.name),
      ...(map.columns.length > 1
        ? [energyByRank(map, `energy-by-rank-${index + 1}`, uniformRank(file))]
        : []),
    ];
    return figures.map((entry) =>
      figure(files.length > 1 ? { ...entry, title: `${entry.title}: ${file.name}` } : entry),
    );
  });
  return parts.length === 0 ? null : section("energy", "Inside the file", parts);
}
