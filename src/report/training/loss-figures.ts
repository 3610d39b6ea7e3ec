/** Losses of a run. */

import { areaY, dot, line, type Markish, type PlotOptions, ruleX, text } from "@observablehq/plot";
import { formatCount, formatLoss } from "../../format.js";
import { frame, padded } from "../chart/axes.js";
import { spread } from "../chart/labels.js";
import { INK, MUTED, orderedColor, PAPER, seriesColor } from "../chart/palette.js";
import type { ChartSize } from "../chart/render.js";
import type { Figure } from "../figure.js";
import { MOST_LINES, type RankLine, rankLines } from "./rank-losses.js";
import type { RunLog } from "./run-log.js";
import { bands, quantile, thinned } from "./series.js";

const HEIGHT = 320;
const BOX = { top: 34, bottom: 44, right: 84, left: 58 };
const LABEL_GAP = 17;
/** Points of a line: two to a pixel's width are not told apart. */
const MOST_POINTS = 400;
/** With more steps, their losses are a band and no longer points. */
const MOST_DOTS = 500;
const BANDS = 120;
/** Rows of a table that somebody reads. */
const TABLE_ROWS = 40;

/** The loss of every step, and smoothed. */
export function lossOverSteps(log: RunLog): Figure {
  const raw = log.steps.map(({ step, loss }) => ({ step, value: loss }));
  const smooth = log.steps.map(({ step, lossEma }) => ({ step, value: lossEma }));
  const asBand = raw.length > MOST_DOTS;
  const sorted = raw.map(({ value }) => value).sort((a, b) => a - b);
  const [low, high] = padded([sorted[0]!, quantile(sorted, 0.99), ...smooth.map(({ value }) => value)]);
  const last = smooth.at(-1)!;
  return {
    id: "loss",
    title: "Loss",
    lede: `${
      asBand ? "The band holds 80 % of the steps around it" : "Points are single steps"
    }, whose losses depend mostly on the noise that was drawn. The line is smoothed exponentially over 100 steps.`,
    description: `Smoothed loss from ${formatLoss(smooth[0]!.value)} at step ${smooth[0]!.step} to ${formatLoss(last.value)} at step ${last.step}.`,
    draw: (size) => ({
      ...frame(size, HEIGHT, { ...BOX, right: 16 }),
      x: stepAxis(size),
      y: { domain: [low, high], grid: true, label: "loss", ticks: 5, tickSize: 0 },
      marks: [
        ...resumptions(log),
        asBand
          ? areaY(bands(raw, BANDS), {
              x: "step",
              y1: "low",
              y2: "high",
              fill: seriesColor(0),
              fillOpacity: 0.22,
            })
          : dot(
              raw.filter(({ value }) => value <= high),
              { x: "step", y: "value", fill: seriesColor(0), fillOpacity: 0.4, r: 2 },
            ),
        line(thinned(smooth, MOST_POINTS), {
          x: "step",
          y: "value",
          stroke: seriesColor(0),
          strokeWidth: 2.5,
        }),
      ],
    }),
    table: {
      caption: "Loss of single steps, and smoothed.",
      columns: [
        { title: "Step" },
        { title: "Loss", numeric: true },
        { title: "Smoothed", numeric: true },
        { title: "Ranks" },
      ],
      rows: thinned(log.steps, TABLE_ROWS).map(({ step, loss, lossEma, draws }) => ({
        cells: [
          formatCount(step),
          formatLoss(loss),
          formatLoss(lossEma),
          draws.map(({ rank }) => rank).join(", "),
        ],
      })),
    },
  };
}

/** The losses of each rank; null where only one was drawn. */
export function lossByRankDrawn(log: RunLog): Figure | null {
  const lines = rankLines(log.steps);
  if (lines.length < 2) return null;
  return {
    id: "loss-by-rank",
    title: "Loss of each rank",
    lede: "The steps that drew a rank, smoothed. Ranks that lie together cost the same: a lower one is as good so far.",
    description: lines
      .map(({ name, points }) => `rank ${name}: ${formatLoss(points.at(-1)!.loss)}`)
      .join("; "),
    draw: (size) => drawRankLines(size, lines, log, false),
    table: {
      caption: "Smoothed loss of each rank, and how often it was drawn.",
      columns: [
        { title: "Rank" },
        { title: "Draws", numeric: true },
        { title: "First draw", numeric: true },
        { title: "Now", numeric: true },
      ],
      rows: lines.map(({ name, draws, points }) => ({
        cells: [name, formatCount(draws), formatLoss(points[0]!.loss), formatLoss(points.at(-1)!.loss)],
      })),
    },
  };
}

/** Losses on held-out images; null without any. */
export function validationLoss(log: RunLog): Figure | null {
  const { validations } = log;
  const last = validations.at(-1);
  if (last === undefined) return null;
  const best = last.byRank.reduce((lowest, entry) => (entry.loss < lowest.loss ? entry : lowest));
  const shown = thinned(last.byRank, MOST_LINES);
  const lines = shown.map(({ rank }): RankLine => {
    const points = validations.flatMap(({ step, byRank }) => {
      const found = byRank.find((entry) => entry.rank === rank);
      return found === undefined ? [] : [{ step, loss: found.loss }];
    });
    return { name: String(rank), draws: points.length, points };
  });
  return {
    id: "validation",
    title: "Loss on held-out images",
    lede: `Every rank on the same images, noises and timesteps each time (${formatCount(last.sampleCount)} losses). Lowest at step ${formatCount(last.step)}: rank ${best.rank} with ${formatLoss(best.loss)}.`,
    description: last.byRank.map(({ rank, loss }) => `rank ${rank}: ${formatLoss(loss)}`).join("; "),
    draw: (size) => drawRankLines(size, lines, log, true),
    table: {
      caption: "Mean loss on the held-out images, by rank.",
      columns: [
        { title: "Step" },
        ...last.byRank.map(({ rank }) => ({ title: `rank ${rank}`, numeric: true })),
      ],
      rows: thinned(validations, TABLE_ROWS).map(({ step, byRank }) => ({
        cells: [formatCount(step), ...byRank.map(({ loss }) => formatLoss(loss))],
      })),
    },
  };
}

function drawRankLines(
  size: ChartSize,
  lines: readonly RankLine[],
  log: RunLog,
  withDots: boolean,
): PlotOptions {
  const points = lines.flatMap(({ points: all }, index) =>
    thinned(all, MOST_POINTS / 2).map((point) => ({ ...point, line: index })),
  );
  const domain = padded(points.map(({ loss }) => loss));
  const pixels = HEIGHT - BOX.top - BOX.bottom;
  const ends = lines.map(({ points: all }) => all.at(-1)!.loss);
  const places = spread(
    ends.map((loss) => ((domain[1] - loss) / (domain[1] - domain[0])) * pixels),
    LABEL_GAP,
    0,
    pixels,
  );
  const labels = lines.map(({ name }, index) => ({
    line: index,
    name: `rank ${name}`,
    loss: domain[1] - (places[index]! / pixels) * (domain[1] - domain[0]),
  }));
  const color = ({ line: index }: { line: number }) => orderedColor(index, lines.length);
  return {
    ...frame(size, HEIGHT, BOX),
    x: stepAxis(size),
    y: { domain, grid: true, label: "loss", ticks: 5, tickSize: 0 },
    marks: [
      ...resumptions(log),
      line(points, { x: "step", y: "loss", z: "line", stroke: color, strokeWidth: 2 }),
      ...(withDots
        ? [dot(points, { x: "step", y: "loss", stroke: color, fill: PAPER, r: 3, strokeWidth: 2 })]
        : []),
      text(labels, {
        y: "loss",
        frameAnchor: "right",
        text: "name",
        textAnchor: "start",
        dx: 10,
        fill: color,
        fontWeight: 650,
      }),
    ],
  };
}

export function stepAxis({ name }: ChartSize): NonNullable<PlotOptions["x"]> {
  return {
    label: "step",
    ticks: name === "narrow" ? 4 : 8,
    tickSize: 4,
    tickFormat: (step: number) => (Number.isInteger(step) ? formatCount(step) : ""),
  };
}

/**
 * Where a run was stopped and went on.
 *
 * @param named - whether there is room for words
 */
export function resumptions({ starts }: RunLog, named = true): Markish[] {
  const resumed = starts.filter(({ step }) => step > 0).map(({ step }) => ({ step: step + 0.5 }));
  if (resumed.length === 0) return [];
  const rules = ruleX(resumed, { x: "step", stroke: MUTED, strokeDasharray: "3 4" });
  if (!named) return [rules];
  return [
    rules,
    text(resumed.slice(-1), {
      x: "step",
      frameAnchor: "top",
      text: () => "resumed",
      textAnchor: "end",
      dx: -4,
      fill: INK,
      stroke: PAPER,
      strokeWidth: 4,
    }),
  ];
}
