/** Loss against the strength of the adapter, where several were measured. */

import { dot, line, type PlotOptions, text } from "@observablehq/plot";
import type { BenchReport, FileResult } from "../../evaluation/bench-types.js";
import { rankName, rankTitle } from "../../evaluation/rank-name.js";
import { formatLoss } from "../../format.js";
import { frame, padded } from "../chart/axes.js";
import { spread } from "../chart/labels.js";
import { orderedColor, PAPER } from "../chart/palette.js";
import type { ChartSize } from "../chart/render.js";
import type { Figure } from "../figure.js";

const HEIGHT = 320;
const LABEL_GAP = 16;
/** From the last point to its label, and of a letter: in pixels. */
const LABEL_DISTANCE = 20;
const LETTER_WIDTH = 7.8;

interface StrengthPoint {
  readonly rank: number;
  /** `rank 8`, `ranks to 16`. */
  readonly title: string;
  readonly multiplier: number;
  readonly loss: number;
}

/** Null where one strength was measured. */
export function lossByStrength(report: BenchReport, index: number): Figure | null {
  const { multipliers } = report.settings;
  if (multipliers.length < 2) return null;
  const file = report.files[index]!;
  const points = file.ranks.flatMap(({ rank, multipliers: results }) =>
    results.map(
      ({ multiplier, meanLoss }): StrengthPoint => ({
        rank,
        title: rankTitle(file, rank),
        multiplier,
        loss: meanLoss,
      }),
    ),
  );
  const { recommendation } = file;
  return {
    id: `strength-${index + 1}`,
    title: `Loss against strength${report.files.length > 1 ? `: ${file.name}` : ""}`,
    lede: `The factor that a user gives an adapter, as in <lora:name:0.8>. Best: ${rankName(file, recommendation.bestRank)} at ${recommendation.bestMultiplier}; recommended: ${rankName(file, recommendation.rank)} at ${recommendation.multiplier}.`,
    description: `${file.ranks.map(({ rank }) => rankTitle(file, rank)).join(", ")} at strengths ${multipliers.join(", ")}.`,
    draw: (size) => draw(size, points, file),
    table: {
      caption: "Mean loss by rank and strength.",
      columns: [
        { title: "Rank" },
        ...multipliers.map((multiplier) => ({ title: `strength ${multiplier}`, numeric: true })),
      ],
      rows: file.ranks.map(({ rank, multipliers: results }) => ({
        highlighted: rank === recommendation.rank,
        cells: [rankTitle(file, rank), ...results.map(({ meanLoss }) => formatLoss(meanLoss))],
      })),
    },
  };
}

function draw(size: ChartSize, points: readonly StrengthPoint[], file: FileResult): PlotOptions {
  const ranks = file.ranks.map(({ rank }) => rank);
  const domain = padded(points.map(({ loss }) => loss));
  const pixels = HEIGHT - 34 - 44;
  const last = Math.max(...points.map(({ multiplier }) => multiplier));
  const ends = points.filter(({ multiplier }) => multiplier === last);
  const places = spread(
    ends.map(({ loss }) => ((domain[1] - loss) / (domain[1] - domain[0])) * pixels),
    LABEL_GAP,
    0,
    pixels,
  );
  const labelWidth = LETTER_WIDTH * Math.max(...ends.map(({ title }) => title.length));
  const color = ({ rank }: { rank: number }) => orderedColor(ranks.indexOf(rank), ranks.length);
  const multipliers = [...new Set(points.map(({ multiplier }) => multiplier))];
  return {
    ...frame(size, HEIGHT, { top: 34, bottom: 44, right: LABEL_DISTANCE + labelWidth + 8 }),
    x: {
      label: "strength",
      ticks: multipliers,
      tickFormat: String,
      tickSize: 4,
      insetLeft: 12,
      insetRight: 12,
    },
    y: { domain, grid: true, label: "loss", ticks: 5, tickSize: 0 },
    marks: [
      line(points, { x: "multiplier", y: "loss", z: "rank", stroke: color, strokeWidth: 2 }),
      dot(points, { x: "multiplier", y: "loss", stroke: color, fill: PAPER, strokeWidth: 2, r: 4 }),
      text(
        ends.map((point, index) => ({
          ...point,
          place: domain[1] - (places[index]! / pixels) * (domain[1] - domain[0]),
        })),
        {
          x: "multiplier",
          y: "place",
          text: "title",
          textAnchor: "start",
          dx: LABEL_DISTANCE,
          fill: color,
          fontWeight: 650,
        },
      ),
    ],
  };
}
