/** Learning rate, gradients, speed and memory of a run. */

import { areaY, line, type PlotOptions } from "@observablehq/plot";
import { formatBytes, formatCount, formatLearningRate } from "../../format.js";
import { frame } from "../chart/axes.js";
import { seriesColor } from "../chart/palette.js";
import type { ChartSize } from "../chart/render.js";
import type { Figure } from "../figure.js";
import { resumptions, stepAxis } from "./loss-figures.js";
import type { RunLog } from "./run-log.js";
import { quantile, type SeriesPoint, thinned } from "./series.js";

const HEIGHT = 190;
const MOST_POINTS = 400;
const TABLE_ROWS = 25;

interface NamedSeries {
  readonly name: string;
  readonly points: readonly SeriesPoint[];
}

interface SimpleFigure {
  readonly id: string;
  readonly title: string;
  readonly lede: string;
  readonly label: string;
  readonly format: (value: number) => string;
  readonly series: readonly NamedSeries[];
  /** Values above it are left out of the chart: one slow step must not flatten the others. */
  readonly ceiling?: number;
}

export function learningRate(log: RunLog): Figure {
  const series = (["unet", "textEncoder"] as const).flatMap((component): NamedSeries[] => {
    const points = log.steps.flatMap(({ step, learningRates }) => {
      const value = learningRates[component];
      return value === undefined ? [] : [{ step, value }];
    });
    return points.length === 0 ? [] : [{ name: component === "unet" ? "U-Net" : "text encoder", points }];
  });
  const [first, second] = series;
  const same =
    first !== undefined &&
    second !== undefined &&
    first.points.every(({ value }, index) => value === second.points[index]?.value);
  return simpleFigure(log, {
    id: "learning-rate",
    title: "Learning rate",
    lede: same
      ? "The same for U-Net and text encoder."
      : `Of the ${series.map(({ name }) => name).join(" and the ")}.`,
    label: "learning rate",
    format: formatLearningRate,
    series: same ? [first] : series,
  });
}

export function gradientNorm(log: RunLog): Figure {
  const points = log.steps.map(({ step, gradNorm }) => ({ step, value: gradNorm }));
  return simpleFigure(log, {
    id: "gradient-norm",
    title: "Gradient norm",
    lede: "Of all gradients together, before they are clipped. It should neither explode nor vanish.",
    label: "norm",
    format: (value) => String(Number(value.toPrecision(3))),
    series: [{ name: "gradient norm", points }],
    ceiling: ceilingOf(points),
  });
}

export function secondsPerStep(log: RunLog): Figure {
  const points = log.steps.map(({ step, secondsPerStep: value }) => ({ step, value }));
  return simpleFigure(log, {
    id: "seconds-per-step",
    title: "Time of a step",
    lede: "Lower ranks take less.",
    label: "seconds",
    format: (value) => `${Number(value.toPrecision(3))} s`,
    series: [{ name: "seconds", points }],
    ceiling: ceilingOf(points),
  });
}

export function memory(log: RunLog): Figure {
  const points = log.steps.map(({ step, rssBytes }) => ({ step, value: rssBytes }));
  const peak = Math.max(...points.map(({ value }) => value));
  return simpleFigure(log, {
    id: "memory",
    title: "Memory",
    lede: `What the process held after each step, at most ${formatBytes(peak)}. On a GPU, its own memory comes on top.`,
    label: "memory",
    format: formatBytes,
    series: [{ name: "memory", points }],
  });
}

function simpleFigure(log: RunLog, figure: SimpleFigure): Figure {
  const { id, title, lede, format, series } = figure;
  const steps = series[0]?.points ?? [];
  return {
    id,
    title,
    lede,
    description: series
      .map(
        ({ name, points }) =>
          `${name}: ${format(points[0]!.value)} at step ${points[0]!.step}, ${format(points.at(-1)!.value)} at step ${points.at(-1)!.step}`,
      )
      .join("; "),
    series: series.map(({ name }) => name),
    draw: (size) => draw(size, log, figure),
    table: {
      caption: `${title} by step.`,
      columns: [{ title: "Step" }, ...series.map(({ name }) => ({ title: name, numeric: true }))],
      rows: thinned(
        steps.map((_, index) => index),
        TABLE_ROWS,
      ).map((index) => ({
        cells: [
          formatCount(steps[index]!.step),
          ...series.map(({ points }) => (points[index] ? format(points[index].value) : "–")),
        ],
      })),
    },
  };
}

function draw(size: ChartSize, log: RunLog, { label, format, series, ceiling }: SimpleFigure): PlotOptions {
  const highest = Math.max(...series.flatMap(({ points }) => points.map(({ value }) => value)));
  const top = 1.08 * Math.min(ceiling ?? highest, highest) || 1;
  return {
    ...frame(size, HEIGHT, { top: 34, bottom: 44, left: 68 }),
    x: stepAxis(size),
    y: { domain: [0, top], grid: true, label, ticks: 4, tickSize: 0, tickFormat: format },
    marks: [
      ...resumptions(log, false),
      ...series.flatMap(({ points }, index) => {
        const shown = thinned(points, MOST_POINTS).map(({ step, value }) => ({
          step,
          value: Math.min(value, top),
        }));
        const xy = { x: "step", y: "value" } as const;
        return [
          ...(series.length === 1
            ? [areaY(shown, { ...xy, fill: seriesColor(index), fillOpacity: 0.12 })]
            : []),
          line(shown, { ...xy, stroke: seriesColor(index), strokeWidth: 1.75 }),
        ];
      }),
    ],
  };
}

/** Well above what is usual. */
function ceilingOf(points: readonly SeriesPoint[]): number {
  return (
    1.5 *
    quantile(
      points.map(({ value }) => value).sort((a, b) => a - b),
      0.98,
    )
  );
}
