/** How much of the best quality each file size buys. */

import { dot, line, type PlotOptions, ruleX, ruleY, text } from "@observablehq/plot";
import type { BenchReport } from "../../evaluation/bench-types.js";
import { capitalized, formatBytes } from "../../format.js";
import { frame, padded } from "../chart/axes.js";
import { type LabelBox, placeLabels } from "../chart/labels.js";
import { INK, MUTED, PAPER, seriesColor } from "../chart/palette.js";
import type { ChartSize } from "../chart/render.js";
import type { Figure } from "../figure.js";
import { pointSymbol, type RankPoint, rankPoints } from "./points.js";
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
    lede: `Share of the largest improvement on the base model that each file keeps. ${several ? `${chosen.fileName}, ${chosen.rankTitle},` : capitalized(chosen.rankTitle)} ${chosen.isMix ? "keep" : "keeps"} ${percent(chosen.gainPercent!)} with ${formatBytes(chosen.sizeBytes)}.`,
    description: points
      .map(
        ({ fileName, rankTitle, sizeBytes, gainPercent }) =>
          `${several ? `${fileName}, ` : ""}${rankTitle}: ${formatBytes(sizeBytes)}, ${percent(gainPercent!)}`,
      )
      .join("; "),
    series: report.files.map(({ name }) => name),
    draw: (size) => draw(size, points),
    table: resultTable(report),
  };
}

const HEIGHT = 320;
const BOX = { top: 34, right: 30, bottom: 44, left: 58 };
/** Room on the right of the largest file, for its dot. */
const INSET_RIGHT = 14;
/** Sizes that lie further apart are shown by their ratio. */
const LOG_FROM_RATIO = 12;
/** Of a letter and of a line, in pixels. */
const LETTER_WIDTH = 7.6;
const LINE_HEIGHT = 17;
/** From a point or the end of its interval to the middle of its label. */
const LABEL_DISTANCE = 16;

/** A place for a label, and how the text is put there. */
interface LabelPlace extends LabelBox {
  readonly side: "below" | "above" | "right" | "left";
}

/** How text stands on each side of a point. */
const SIDES = {
  below: { dx: 0, dy: LABEL_DISTANCE, textAnchor: "middle" },
  above: { dx: 0, dy: -LABEL_DISTANCE, textAnchor: "middle" },
  right: { dx: 12, dy: 0, textAnchor: "start" },
  left: { dx: -12, dy: 0, textAnchor: "end" },
} as const;

/** The value that a label stands at: beyond the interval where it is above or below. */
function labelValue({ gainInterval, gainPercent }: RankPoint, side: LabelPlace["side"]): number {
  if (side === "below") return Math.min(gainInterval?.low ?? gainPercent!, gainPercent!);
  if (side === "above") return Math.max(gainInterval?.high ?? gainPercent!, gainPercent!);
  return gainPercent!;
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
  const labels = placedLabels(points, size, { xDomain, yDomain, isLog });
  return {
    ...frame(size, HEIGHT, BOX),
    x: {
      domain: xDomain,
      type: isLog ? "log" : "linear",
      label: "file size",
      ticks: isLog ? logTicks(xDomain, size) : size.name === "narrow" ? 4 : 6,
      tickFormat: formatBytes,
      tickSize: 4,
      insetRight: INSET_RIGHT,
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
        symbol: pointSymbol,
        title: ({ fileName, rankTitle, sizeBytes, gainPercent }: RankPoint) =>
          `${fileName}, ${rankTitle}: ${formatBytes(sizeBytes)}, ${percent(gainPercent!)}`,
      }),
      ...labels.map(({ label, place }) =>
        text([label], {
          x: "sizeBytes",
          y: (point: RankPoint) => labelValue(point, place.side),
          text: "rankTitle",
          ...SIDES[place.side],
          fill: INK,
          stroke: PAPER,
          strokeWidth: 4,
          fontWeight: label.isRecommended ? 650 : 400,
        }),
      ),
    ],
  };
}

/** Names as many points as there is room for, on the side where they cover no point, no interval and no other name. */
function placedLabels(
  points: readonly RankPoint[],
  size: ChartSize,
  scales: {
    readonly xDomain: readonly [number, number];
    readonly yDomain: readonly [number, number];
    readonly isLog: boolean;
  },
): { readonly label: RankPoint; readonly place: LabelPlace }[] {
  const place = (bytes: number) => (scales.isLog ? Math.log(bytes) : bytes);
  const right = size.width - BOX.right - INSET_RIGHT;
  const xOf = ({ sizeBytes }: RankPoint) =>
    BOX.left + share(place(sizeBytes), scales.xDomain.map(place)) * (right - BOX.left);
  const yOf = (value: number) =>
    HEIGHT - BOX.bottom - share(value, scales.yDomain) * (HEIGHT - BOX.top - BOX.bottom);
  const taken = points.flatMap((point): LabelBox[] => {
    const [x, y] = [xOf(point), yOf(point.gainPercent!)];
    const radius = point.isRecommended ? 8 : 6;
    const dot = { x, y, width: 2 * radius, height: 2 * radius };
    if (point.gainInterval === null) return [dot];
    const [low, high] = [yOf(point.gainInterval.low), yOf(point.gainInterval.high)];
    return [dot, { x, y: (low + high) / 2, width: 6, height: low - high }];
  });
  const placesOf = (point: RankPoint): LabelPlace[] => {
    const width = LETTER_WIDTH * point.rankTitle.length;
    return (["below", "above", "right", "left"] as const)
      .map((side): LabelPlace => {
        const { dx, dy, textAnchor } = SIDES[side];
        const toMiddle = { start: width / 2, middle: 0, end: -width / 2 }[textAnchor];
        const [x, y] = [xOf(point) + dx + toMiddle, yOf(labelValue(point, side)) + dy];
        return { side, x, y, width, height: LINE_HEIGHT };
      })
      .filter(
        ({ x, y }) =>
          x - width / 2 > BOX.left &&
          x + width / 2 < size.width &&
          y - LINE_HEIGHT / 2 > 16 &&
          y + LINE_HEIGHT / 2 < HEIGHT - BOX.bottom + 4,
      );
  };
  // The recommended ones first: they are the ones that must be named.
  const byWeight = [...points].sort((a, b) => Number(b.isRecommended) - Number(a.isRecommended));
  return placeLabels(byWeight, placesOf, taken);
}

/** Where a value lies between the ends of a range: 0 to 1. */
function share(value: number, [low = 0, high = 1]: readonly number[]): number {
  return (value - low) / (high - low);
}
