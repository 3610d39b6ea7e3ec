/** How much of the best quality each file size buys. */

import { dot, line, type PlotOptions, ruleX, ruleY, text } from "@observablehq/plot";
import type { BenchReport } from "../../evaluation/bench-types.js";
import { formatBytes } from "../../format.js";
import { frame, padded } from "../chart/axes.js";
import { withoutCollisions } from "../chart/labels.js";
import { INK, MUTED, PAPER, seriesColor } from "../chart/palette.js";
import type { ChartSize } from "../chart/render.js";
import type { Figure } from "../figure.js";
import { type RankPoint, rankPoints } from "./points.js";
import { percent, resultTable } from "./tables.js";

/** Null where nothing improves on the base model: there is no gain to keep. */
export function sizeAgainstQuality(report: BenchReport): Figure | null {
  const points = rankPoints(report).filter(({ gainPercent }) => gainPercent !== null);
  if (points.length === 0) return null;
  const several = report.files.length > 1;
  const chosen = points.find(
    ({ file, rank }) => file === report.recommendation.file && rank === report.recommendation.rank,
  )!;
  return {
    id: "size-against-quality",
    title: "Quality against file size",
    lede: `Share of the largest improvement on the base model that each file keeps. ${several ? `${chosen.fileName}, rank` : "Rank"} ${chosen.rank} keeps ${percent(chosen.gainPercent!)} with ${formatBytes(chosen.sizeBytes)}.`,
    description: points
      .map(
        ({ fileName, rank, sizeBytes, gainPercent }) =>
          `${several ? `${fileName}, ` : ""}rank ${rank}: ${formatBytes(sizeBytes)}, ${percent(gainPercent!)}`,
      )
      .join("; "),
    series: report.files.map(({ name }) => name),
    draw: (size) => draw(size, points),
    table: resultTable(report),
  };
}

const HEIGHT = 320;
/** Sizes that lie further apart are shown by their ratio. */
const LOG_FROM_RATIO = 12;
/** Of `rank 128`, in pixels. */
const LABEL_SIZE = { width: 58, height: 17 };

/** A label stands below the point and its interval. */
function labelHeight({ gainInterval, gainPercent }: RankPoint): number {
  return gainInterval?.low ?? gainPercent!;
}

/** Where a value lies on an axis of so many pixels. */
function scaled(value: number, [low = 0, high = 1]: readonly number[], pixels: number): number {
  return ((value - low) / (high - low)) * pixels;
}

/** 1, 2, 5, 10, … of bytes, as many as there is room for. */
function logTicks([low, high]: readonly [number, number], { name }: ChartSize): number[] {
  const most = name === "narrow" ? 4 : 8;
  for (const digits of [[1, 2, 5], [1, 3], [1]]) {
    const ticks = Array.from({ length: 16 }, (_, power) => digits.map((digit) => digit * 10 ** power))
      .flat()
      .filter((tick) => tick >= low && tick <= high);
    if (ticks.length <= most) return ticks;
  }
  return [low, high];
}

function draw(size: ChartSize, points: readonly RankPoint[]): PlotOptions {
  const values = points.flatMap(({ gainPercent, gainInterval }) => [
    gainPercent!,
    ...(gainInterval === null ? [] : [gainInterval.low, gainInterval.high]),
  ]);
  const largest = Math.max(...points.map(({ sizeBytes }) => sizeBytes));
  const color = ({ file }: RankPoint) => seriesColor(file);
  const y = (point: RankPoint) => point.gainPercent!;
  const smallest = Math.min(...points.map(({ sizeBytes }) => sizeBytes));
  const isLog = largest / smallest >= LOG_FROM_RATIO;
  const xDomain: [number, number] = [isLog ? smallest * 0.8 : 0, largest];
  const yDomain = padded([...values, 100], 0.15);
  const box = { top: 34, right: 30, bottom: 44, left: 58 };
  const place = (bytes: number) => (isLog ? Math.log(bytes) : bytes);
  // The recommended ones first: they are the ones that must be named.
  const labels = withoutCollisions(
    [...points].sort((a, b) => Number(b.isRecommended) - Number(a.isRecommended)),
    (point) => ({
      x: scaled(place(point.sizeBytes), xDomain.map(place), size.width - box.left - box.right),
      y: -scaled(labelHeight(point), yDomain, HEIGHT - box.top - box.bottom),
      ...LABEL_SIZE,
    }),
  );
  return {
    ...frame(size, HEIGHT, box),
    x: {
      domain: xDomain,
      type: isLog ? "log" : "linear",
      label: "file size",
      ticks: isLog ? logTicks(xDomain, size) : size.name === "narrow" ? 4 : 6,
      tickFormat: formatBytes,
      tickSize: 4,
      insetRight: 14,
    },
    y: {
      domain: yDomain,
      grid: true,
      label: "gain kept",
      ticks: 5,
      tickSize: 0,
      tickFormat: (value: number) => `${Number(value.toFixed(2))} %`,
    },
    marks: [
      ruleY([100], { stroke: MUTED, strokeDasharray: "5 4" }),
      line(points, { x: "sizeBytes", y, z: "file", stroke: color, strokeWidth: 2 }),
      ruleX(
        points.filter(({ gainInterval }) => gainInterval !== null),
        {
          x: "sizeBytes",
          y1: (point: RankPoint) => point.gainInterval!.low,
          y2: (point: RankPoint) => point.gainInterval!.high,
          stroke: color,
          strokeWidth: 6,
          strokeOpacity: 0.35,
        },
      ),
      dot(points, {
        x: "sizeBytes",
        y,
        fill: (point: RankPoint) => (point.isRecommended ? color(point) : PAPER),
        stroke: color,
        strokeWidth: 2,
        r: (point: RankPoint) => (point.isRecommended ? 7 : 4.5),
        title: ({ fileName, rank, sizeBytes, gainPercent }: RankPoint) =>
          `${fileName}, rank ${rank}: ${formatBytes(sizeBytes)}, ${percent(gainPercent!)}`,
      }),
      ...[true, false].map((recommended) =>
        text(
          labels.filter(({ isRecommended }) => isRecommended === recommended),
          {
            x: "sizeBytes",
            y: labelHeight,
            text: ({ rank }: RankPoint) => `rank ${rank}`,
            dy: 16,
            fill: INK,
            stroke: PAPER,
            strokeWidth: 4,
            fontWeight: recommended ? 650 : 400,
          },
        ),
      ),
    ],
  };
}
