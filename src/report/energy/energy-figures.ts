/** The energy of an adapter's components, over the blocks of the model. */

import { barX, dot, line, type PlotOptions, ruleY, text } from "@observablehq/plot";
import { frame, rankAxis } from "../chart/axes.js";
import { ACCENT, HEAT_STEPS, heatColor, INK, MUTED, PAPER } from "../chart/palette.js";
import type { ChartSize } from "../chart/render.js";
import type { Figure } from "../figure.js";
import type { ComponentRange, EnergyMap } from "./energy-map.js";

const ROW_HEIGHT = 21;

/** What a column of the map is. */
const THING = { nested: "component", singular: "singular direction" } as const;

/** A heat map: blocks of the model by components of the adapter, with each block's sum beside it. */
export function energyHeatMap(map: EnergyMap, id: string, fileName: string): Figure {
  const { columns, blocks, order } = map;
  const sums = blocks.map((block) => ({ name: block.name, share: sum(block.energies) }));
  const strongest = [...sums].sort((a, b) => b.share - a.share).slice(0, 3);
  const thing = THING[order];
  return {
    id,
    title: "Where the adapter changes the model",
    lede: `Energy (squared norm of the change) by block of the model and by ${thing}${
      columns.some(({ first, last }) => last > first) ? `s, ${columns[0]!.last} to a column` : ""
    }. Darker is more on light pages, brighter on dark ones; bars on the right are a block's share of everything. Most lies in ${strongest
      .map(({ name, share }) => `${name} (${shareText(share)})`)
      .join(", ")}.`,
    description: `Heat map of ${fileName}: ${blocks.length} blocks by ${columns.length} columns. ${sums
      .map(({ name, share }) => `${name} ${shareText(share)}`)
      .join("; ")}.`,
    note: "Blocks have the names of kohya's block weights: IN and OUT count the U-Net's input and output blocks, M00 is the middle, TE a layer of the text encoder.",
    draw: (size) => drawHeatMap(size, map),
    table: {
      caption: "Share of the adapter's energy, in percent.",
      columns: [
        { title: "Block" },
        { title: "Modules", numeric: true },
        ...columns.map((column) => ({ title: rangeText(column), numeric: true })),
        { title: "All", numeric: true },
      ],
      rows: blocks.map((block) => ({
        cells: [
          block.name,
          block.modules,
          ...block.energies.map((energy) => (100 * energy).toFixed(2)),
          (100 * sum(block.energies)).toFixed(1),
        ],
      })),
    },
  };
}

/** How much of the energy the first components hold. */
export function energyByRank(map: EnergyMap, id: string, recommendedRank: number | null): Figure {
  const { columns, blocks, order, maxRank } = map;
  const perColumn = columns.map((_, index) => sum(blocks.map(({ energies }) => energies[index]!)));
  let held = 0;
  const points = columns.map(({ last }, index) => {
    held += perColumn[index]!;
    return { rank: last, share: 100 * held };
  });
  const atRecommended = points.find(({ rank }) => rank === recommendedRank);
  return {
    id,
    title:
      order === "nested" ? "Energy that each rank holds" : "Energy that the best cut to each rank would hold",
    lede: `The components up to a rank, as a share of the energy of all ${maxRank}.${
      atRecommended === undefined || recommendedRank === maxRank
        ? ""
        : ` Rank ${recommendedRank} holds ${atRecommended.share.toFixed(1)} %.`
    } Energy says how large a change is, not how useful: the loss decides.`,
    description: points.map(({ rank, share }) => `rank ${rank}: ${share.toFixed(1)} %`).join("; "),
    draw: (size) => drawCurve(size, points, recommendedRank),
    table: {
      caption: "Energy of the components up to each rank, in percent.",
      columns: [
        { title: "Rank" },
        { title: "Own energy", numeric: true },
        { title: "Up to here", numeric: true },
      ],
      rows: points.map(({ rank, share }, index) => ({
        highlighted: rank === recommendedRank,
        cells: [rank, (100 * perColumn[index]!).toFixed(1), share.toFixed(1)],
      })),
    },
  };
}

interface Cell {
  readonly block: string;
  readonly column: number;
  readonly energy: number;
}

function drawHeatMap(size: ChartSize, { blocks, columns, order }: EnergyMap): PlotOptions {
  const narrow = size.name === "narrow";
  const cells = blocks.flatMap((block): Cell[] =>
    block.energies.map((energy, column) => ({ block: block.name, column, energy })),
  );
  const largest = Math.max(...cells.map(({ energy }) => energy), Number.MIN_VALUE);
  // The square root is in proportion to the norm of the change, which spreads the small ones out.
  const step = (energy: number) =>
    Math.min(HEAT_STEPS - 1, Math.floor(Math.sqrt(energy / largest) * HEAT_STEPS));
  // Cells are one wide, then a gap, then the bars.
  const count = columns.length;
  const gap = count * 0.03;
  const barsFrom = count + gap;
  const barsWidth = count * (narrow ? 0.22 : 0.2);
  const sums = blocks.map((block) => ({ block: block.name, share: sum(block.energies) }));
  const largestSum = Math.max(...sums.map(({ share }) => share), Number.MIN_VALUE);
  const labelled = thinnedColumns(columns, narrow ? 6 : 16);
  return {
    ...frame(size, 62 + ROW_HEIGHT * blocks.length, { top: 10, right: 44, bottom: 52, left: 58 }),
    x: { domain: [0, barsFrom + barsWidth], axis: null },
    y: { domain: blocks.map(({ name }) => name), label: null, tickSize: 0, padding: 0.08 },
    marks: [
      barX(cells, {
        y: "block",
        x1: ({ column }: Cell) => column + 0.04,
        x2: ({ column }: Cell) => column + 0.96,
        fill: ({ energy }: Cell) => heatColor(step(energy)),
        title: ({ block, column, energy }: Cell) =>
          `${block}, ${rangeText(columns[column]!)}: ${shareText(energy)}`,
      }),
      barX(sums, {
        y: "block",
        x1: barsFrom,
        x2: ({ share }) => barsFrom + (share / largestSum) * barsWidth,
        fill: ACCENT,
        insetTop: 3,
        insetBottom: 3,
      }),
      text(sums, {
        y: "block",
        x: ({ share }) => barsFrom + (share / largestSum) * barsWidth,
        text: ({ share }) => shareText(share),
        textAnchor: "start",
        dx: 4,
        fill: MUTED,
      }),
      text(labelled, {
        x: (column: ComponentRange) => columns.indexOf(column) + 0.5,
        text: rangeText,
        frameAnchor: "bottom",
        dy: 18,
      }),
      text([count / 2], {
        x: (value: number) => value,
        text: () => THING[order],
        frameAnchor: "bottom",
        dy: 38,
        fill: MUTED,
      }),
      text([barsFrom], {
        x: (value: number) => value,
        text: () => (narrow ? "share" : "share of all"),
        frameAnchor: "bottom",
        textAnchor: "start",
        dy: 18,
        fill: MUTED,
      }),
    ],
  };
}

function drawCurve(
  size: ChartSize,
  points: readonly { readonly rank: number; readonly share: number }[],
  recommendedRank: number | null,
): PlotOptions {
  const ranks = points.map(({ rank }) => rank);
  const chosen = ({ rank }: { rank: number }) => rank === recommendedRank;
  const step = Math.ceil(ranks.length / (size.name === "narrow" ? 6 : 12));
  const ticks = ranks.filter((_, index) => (ranks.length - 1 - index) % step === 0);
  return {
    ...frame(size, 260, { top: 30, bottom: 44 }),
    x: { ...rankAxis(ranks), ticks, insetLeft: 12, insetRight: 12 },
    y: {
      domain: [0, 100],
      grid: true,
      label: "energy",
      ticks: 5,
      tickSize: 0,
      tickFormat: (value: number) => `${value} %`,
    },
    marks: [
      ruleY([0], { stroke: MUTED }),
      line(points, { x: "rank", y: "share", stroke: ACCENT, strokeWidth: 2 }),
      dot(points, {
        x: "rank",
        y: "share",
        stroke: ACCENT,
        strokeWidth: 2,
        fill: (point: { rank: number }) => (chosen(point) ? ACCENT : PAPER),
        r: (point: { rank: number }) => (chosen(point) ? 6 : 3),
      }),
      text(points.filter(chosen), {
        x: "rank",
        y: "share",
        text: ({ rank, share }) => `rank ${rank}: ${share.toFixed(1)} %`,
        // The curve rises: right of it and below there is room, except at its end.
        textAnchor: recommendedRank === ranks.at(-1) ? "end" : "start",
        dx: recommendedRank === ranks.at(-1) ? 4 : 10,
        dy: recommendedRank === ranks.at(-1) ? 20 : 12,
        fill: INK,
        stroke: PAPER,
        strokeWidth: 4,
        fontWeight: 650,
      }),
    ],
  };
}

function thinnedColumns(columns: readonly ComponentRange[], most: number): ComponentRange[] {
  const step = Math.ceil(columns.length / most);
  return columns.filter((_, index) => index % step === 0);
}

/** `5–8`, `5` */
function rangeText({ first, last }: ComponentRange): string {
  return first === last ? String(first) : `${first}–${last}`;
}

/** `12 %`, `0.4 %` */
function shareText(share: number): string {
  const value = 100 * share;
  return `${value >= 9.95 || value === 0 ? value.toFixed(0) : value.toFixed(1)} %`;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
