/** Loss against rank: the answer of a rank comparison in one picture. */

import { dot, line, type PlotOptions, ruleX, ruleY, text } from "@observablehq/plot";
import type { BenchReport } from "../../evaluation/bench-types.js";
import { rankName } from "../../evaluation/rank-name.js";
import { formatLoss } from "../../format.js";
import { frame, padded, rankAxis } from "../chart/axes.js";
import { INK, MUTED, PAPER, seriesColor } from "../chart/palette.js";
import type { ChartSize } from "../chart/render.js";
import type { Figure } from "../figure.js";
import { bestResult, pointSymbol, type RankPoint, rankPoints } from "./points.js";
import { resultTable } from "./tables.js";

const HEIGHT = 340;
/** For the label below the recommended point, as a share of the range of losses. */
const LABEL_ROOM = 0.2;

export function lossByRank(report: BenchReport): Figure {
  const points = rankPoints(report);
  const best = bestResult(report).meanLoss;
  const base = report.base.meanLoss;
  const { recommendation, files } = report;
  const several = files.length > 1;
  const bestFile = files[recommendation.bestFile]!;
  const bestName = `${rankName(bestFile, recommendation.bestRank)}${several ? ` of ${bestFile.name}` : ""}`;
  const hasBars = points.some(({ lossInterval }) => lossInterval !== null);
  return {
    id: "loss-by-rank",
    title: "Loss on held-out images, by rank",
    lede: [
      `Lower is better. The dashed line is the best, ${bestName}. `,
      hasBars
        ? "Bars are 95 % intervals of the difference to it: a rank whose bar stays above the line is worse. "
        : "",
      several ? "Filled points are what is recommended of each file. " : "",
      points.some(({ isMix }) => isMix) ? "A diamond is a mix of ranks, at the largest of them. " : "",
      `The base model without an adapter is at ${formatLoss(base)}${isInSight(base, points) ? "" : ", outside of this chart"}.`,
    ],
    description: `${several ? `${files.length} files` : files[0]!.name}: ${points
      .map(
        (point) =>
          `${several ? `${point.fileName}, ` : ""}${point.rankTitle} ${formatLoss(point.result.meanLoss)}`,
      )
      .join("; ")}.`,
    draw: (size) => draw(size, points, { best, base, several }),
    series: files.map(({ name }) => name),
    table: resultTable(report),
  };
}

/** The base model is mostly so far off that its line would flatten everything else. */
function isInSight(base: number, points: readonly RankPoint[]): boolean {
  const [low, high] = padded(shownLosses(points));
  return base >= low && base <= high + (high - low);
}

function shownLosses(points: readonly RankPoint[]): number[] {
  return points.flatMap(({ result, lossInterval }) => [
    result.meanLoss,
    ...(lossInterval === null ? [] : [lossInterval.low, lossInterval.high]),
  ]);
}

function draw(
  size: ChartSize,
  points: readonly RankPoint[],
  { best, base, several }: { best: number; base: number; several: boolean },
): PlotOptions {
  const shown = shownLosses(points);
  const domain = padded(isInSight(base, points) ? [...shown, base] : shown, LABEL_ROOM);
  const box = { top: 34, bottom: 44, right: 26 };
  const ranks = points.map(({ rank }) => rank);
  const onlyMixes = new Set(
    ranks.filter((rank) => points.every((point) => point.rank !== rank || point.isMix)),
  );
  const [lowest, highest] = [Math.min(...ranks), Math.max(...ranks)];
  const color = (point: RankPoint) => (several ? seriesColor(point.file) : seriesColor(0));
  return {
    ...frame(size, HEIGHT, box),
    x: {
      ...rankAxis(ranks),
      tickFormat: (rank: number) => (onlyMixes.has(rank) ? `to ${rank}` : String(rank)),
      insetLeft: 22,
      insetRight: 22,
    },
    y: { domain, grid: true, label: "loss", ticks: 5, tickSize: 0 },
    marks: [
      ruleY([best], { stroke: MUTED, strokeDasharray: "5 4" }),
      ...(isInSight(base, points)
        ? [
            ruleY([base], { stroke: MUTED }),
            text([base], {
              y: (value) => value,
              text: () => "base model",
              frameAnchor: "left",
              dy: -8,
              dx: 4,
              textAnchor: "start",
              fill: MUTED,
            }),
          ]
        : []),
      line(points, {
        x: "rank",
        y: (point: RankPoint) => point.result.meanLoss,
        z: "file",
        stroke: color,
        strokeWidth: 2,
      }),
      ruleX(
        points.filter(({ lossInterval }) => lossInterval !== null),
        {
          x: "rank",
          y1: (point: RankPoint) => point.lossInterval!.low,
          y2: (point: RankPoint) => point.lossInterval!.high,
          stroke: color,
          strokeWidth: 6,
          strokeOpacity: 0.35,
        },
      ),
      dot(points, {
        x: "rank",
        y: (point: RankPoint) => point.result.meanLoss,
        fill: (point: RankPoint) => (point.isRecommended ? color(point) : PAPER),
        stroke: color,
        strokeWidth: 2,
        r: (point: RankPoint) => (point.isRecommended ? 7 : 4.5),
        symbol: pointSymbol,
        title: (point: RankPoint) =>
          `${point.fileName}, ${point.rankTitle}: ${formatLoss(point.result.meanLoss)}`,
      }),
      ...points
        .filter(({ isRecommended }) => isRecommended && !several)
        .map((point) =>
          text([point], {
            x: "rank",
            y: point.lossInterval?.low ?? point.result.meanLoss,
            text: () => "recommended",
            dy: 15,
            // At the ends of the axis there is room on one side only.
            ...(point.rank === lowest && lowest < highest && { textAnchor: "start" as const, dx: -8 }),
            ...(point.rank === highest && lowest < highest && { textAnchor: "end" as const, dx: 8 }),
            fontWeight: 650,
            fill: INK,
            stroke: PAPER,
            strokeWidth: 4,
          }),
        ),
    ],
  };
}
