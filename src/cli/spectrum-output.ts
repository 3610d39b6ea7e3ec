import type { ModuleSpectrum, SpectrumReport, SpectrumTotal } from "../surgery/svd/spectrum.js";
import { formatPercent } from "./format.js";
import { printable } from "./printable.js";
import { type Column, renderTable } from "./table.js";
import type { OutputStream } from "./terminal.js";

/** This many rows are enough to see the curve. */
const MAX_ROWS = 16;

const COMPONENT_NAMES: Readonly<Record<SpectrumTotal["component"], string>> = {
  unet: "U-Net",
  text_encoder: "text encoder",
  text_encoder_2: "text encoder 2",
  all: "all",
};

/** What each rank is worth at best, in all and on request by module. */
export function spectrumText(report: SpectrumReport, allModules: boolean, out: OutputStream): string {
  const { bold } = out.style;
  const totals = renderTable<SpectrumTotal>(
    report.totals,
    [{ title: "component", value: ({ component }) => COMPONENT_NAMES[component] }, ...rankColumns(meanOf)],
    out,
  );
  const modules = renderTable<ModuleSpectrum>(
    report.modules,
    [
      { title: "module", value: ({ name }) => printable(name), shorten: true },
      { title: "rank", align: "right", value: ({ rank }) => String(rank) },
      ...rankColumns<ModuleSpectrum>(({ effectiveRank }) => effectiveRank),
      { title: "largest", align: "right", value: ({ singularValues }) => significant(singularValues[0]!) },
      {
        title: "smallest",
        align: "right",
        value: ({ singularValues }) => significant(singularValues.at(-1)!),
      },
    ],
    out,
  );
  return [
    `${bold("Ranks that are used")}\n${totals}`,
    "effective rank: of the singular values' entropy; 90 %: the smallest rank that keeps as much energy\n",
    `\n${bold("Energy that the best approximation keeps at each rank")}\n${energyTable(report, out)}`,
    allModules ? `\n${bold("Spectrum of every module")}\n${modules}` : "",
    "\n",
  ].join("");
}

function rankColumns<Row extends ModuleSpectrum | SpectrumTotal>(
  effective: (row: Row) => number,
): Column<Row>[] {
  return [
    { title: "effective rank", align: "right", value: (row) => effective(row).toFixed(1) },
    ...([0.9, 0.95, 0.99] as const).map(
      (share): Column<Row> => ({
        title: `${100 * share} %`,
        align: "right",
        value: ({ energyRanks }) => String(energyRanks[share]),
      }),
    ),
  ];
}

function meanOf({ meanEffectiveRank }: SpectrumTotal): number {
  return meanEffectiveRank;
}

function energyTable({ totals, maxRank }: SpectrumReport, out: OutputStream): string {
  const every = Math.ceil(maxRank / MAX_ROWS);
  const ranks = Array.from({ length: maxRank }, (_, index) => index + 1);
  return renderTable(
    // Counted from the end: the full rank is always there.
    ranks.filter((rank) => (maxRank - rank) % every === 0),
    [
      { title: "rank", align: "right", value: (rank) => String(rank) },
      ...totals.map(
        ({ component, energyAtRank }): Column<number> => ({
          title: COMPONENT_NAMES[component],
          align: "right",
          value: (rank) => formatPercent(100 * energyAtRank[rank - 1]!),
        }),
      ),
    ],
    out,
  );
}

function significant(value: number): string {
  return String(Number(value.toPrecision(3)));
}
