/** What a rank costs at each level of noise. */

import { dot, line, type PlotOptions, ruleX, ruleY, text } from "@observablehq/plot";
import type { BenchReport, TimestepBand } from "../../evaluation/bench-types.js";
import { frame, padded, rankAxis } from "../chart/axes.js";
import { MUTED, PAPER, seriesColor } from "../chart/palette.js";
import type { ChartSize } from "../chart/render.js";
import type { Figure } from "../figure.js";
import { finiteInterval, type Interval, rankPoints } from "./points.js";
import { pairedText, rowName } from "./tables.js";

interface BandPoint {
  readonly file: number;
  readonly band: number;
  readonly rank: number;
  readonly difference: number;
  readonly interval: Interval | null;
  readonly isRecommended: boolean;
}

/** Null where no file has two ranks: there is no full rank to compare with. */
export function lossByBand(report: BenchReport): Figure | null {
  const { bands, files } = report;
  const points = rankPoints(report).flatMap((point): BandPoint[] => {
    // A file of one rank has nothing to be compared with.
    if (files[point.file]!.ranks.length < 2) return [];
    return point.result.bands.map(({ versusFullRank }, band) => ({
      file: point.file,
      band,
      rank: point.rank,
      difference: versusFullRank?.mean ?? 0,
      interval: finiteInterval(versusFullRank),
      isRecommended: point.isRecommended,
    }));
  });
  if (points.length === 0) return null;
  const several = files.length > 1;
  return {
    id: "loss-by-band",
    title: "Each rank against the full one, from fine detail to layout",
    lede: `Loss minus the loss at full rank, at ${bands.length} levels of noise. Small timesteps decide on fine detail, large ones on the layout of a picture. Below 0 is better than the full rank; bars are 95 % intervals.`,
    description: bands
      .map((band, index) => {
        const inBand = points.filter((point) => point.band === index);
        const lowest = inBand.reduce((best, point) => (point.difference < best.difference ? point : best));
        return `${bandName(band)}: lowest at rank ${lowest.rank}${several ? ` of ${files[lowest.file]!.name}` : ""}`;
      })
      .join("; "),
    // A file of one rank has no line here.
    series: files.map(({ name, ranks }) => (ranks.length > 1 ? name : null)),
    draw: (size) => draw(size, points, bands),
    table: {
      caption: "Loss minus loss at full rank, by band of timesteps, with 95 % intervals.",
      columns: [
        { title: several ? "File and rank" : "Rank" },
        ...bands.map((band) => ({ title: bandName(band), numeric: true })),
      ],
      rows: rankPoints(report)
        .filter(({ file }) => files[file]!.ranks.length > 1)
        .map((point) => ({
          highlighted: point.isRecommended,
          cells: [
            rowName(several ? point.fileName : null, point.rankTitle),
            ...point.result.bands.map(({ versusFullRank }) => pairedText(versusFullRank)),
          ],
        })),
    },
  };
}

export function bandName({ firstTimestep, lastTimestep }: TimestepBand): string {
  return `timesteps ${firstTimestep}–${lastTimestep}`;
}

/** Words for the two ends of the range. */
function bandHint(index: number, count: number): string {
  if (count < 2) return "";
  return index === 0 ? "fine detail" : index === count - 1 ? "layout" : "";
}

function draw(size: ChartSize, points: readonly BandPoint[], bands: readonly TimestepBand[]): PlotOptions {
  const columns = size.name === "narrow" ? Math.min(2, bands.length) : bands.length;
  const rows = Math.ceil(bands.length / columns);
  const fx = ({ band }: { band: number }) => band % columns;
  const fy = ({ band }: { band: number }) => Math.floor(band / columns);
  const color = ({ file }: BandPoint) => seriesColor(file);
  const values = points.flatMap(({ difference, interval }) => [
    difference,
    ...(interval === null ? [] : [interval.low, interval.high]),
  ]);
  const names = bands.map((band, index) => ({
    band: index,
    text: `${band.firstTimestep}–${band.lastTimestep}`,
    hint: bandHint(index, bands.length),
  }));
  const ranks = [...new Set(points.map(({ rank }) => rank))].sort((a, b) => a - b);
  return {
    ...frame(size, 60 + 210 * rows, { top: 58, left: 64, right: 8 }),
    x: { ...rankAxis(ranks), insetLeft: 12, insetRight: 12, ticks: thinned(ranks, size) },
    y: {
      domain: padded([...values, 0]),
      grid: true,
      label: "difference in loss",
      ticks: 5,
      tickSize: 0,
      tickFormat: signed,
    },
    fx: { axis: null, padding: 0.08 },
    fy: { axis: null, padding: rows > 1 ? 0.32 : 0 },
    marks: [
      ruleY(names, { fx, fy, y: 0, stroke: MUTED, strokeDasharray: "5 4" }),
      text(names, { fx, fy, text: "text", frameAnchor: "top-left", dy: -24, fontWeight: 650 }),
      text(names, { fx, fy, text: "hint", frameAnchor: "top-left", dy: -9, fill: MUTED }),
      line(points, { fx, fy, x: "rank", y: "difference", z: "file", stroke: color, strokeWidth: 1.75 }),
      ruleX(
        points.filter(({ interval }) => interval !== null),
        {
          fx,
          fy,
          x: "rank",
          y1: ({ interval }: BandPoint) => interval!.low,
          y2: ({ interval }: BandPoint) => interval!.high,
          stroke: color,
          strokeWidth: 5,
          strokeOpacity: 0.35,
        },
      ),
      dot(points, {
        fx,
        fy,
        x: "rank",
        y: "difference",
        stroke: color,
        strokeWidth: 1.75,
        fill: (point: BandPoint) => (point.isRecommended ? color(point) : PAPER),
        r: (point: BandPoint) => (point.isRecommended ? 5 : 3.5),
      }),
    ],
  };
}

/** `+0.002`, `0` */
function signed(value: number): string {
  const text = String(Number(Math.abs(value).toPrecision(6)));
  return value === 0 ? "0" : `${value < 0 ? "−" : "+"}${text}`;
}

/** As many ticks as a panel has room for, the last rank always among them. */
function thinned(ranks: readonly number[], { name }: ChartSize): number[] {
  const step = Math.ceil(ranks.length / (name === "narrow" ? 5 : 6));
  return ranks.filter((_, index) => (ranks.length - 1 - index) % step === 0);
}
