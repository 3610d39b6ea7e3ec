/** A rank comparison as tables. */

import type {
  BaseResult,
  BenchReport,
  FileResult,
  MultiplierResult,
  PairedDifference,
  RankResult,
  TimestepBand,
} from "../evaluation/bench-types.js";
import { rankLabel } from "../evaluation/rank-name.js";
import {
  formatBytes,
  formatCount,
  formatDifference,
  formatLoss,
  formatPath,
  formatPercent,
  formatQuantity,
} from "./format.js";
import { type Column, renderTable } from "./table.js";
import type { OutputStream } from "./terminal.js";

/** One line of a file's tables: a rank with a multiplier, or the base model. */
interface Row {
  readonly rank: RankResult | null;
  readonly result: MultiplierResult | null;
}

/** Two tables per file, the recommended rank and the reason; for several files also the choice among them. */
export function benchText(report: BenchReport, out: OutputStream): string {
  const { settings, extent, warnings, files, recommendation } = report;
  const { device, provider, seed } = settings;
  const draws = `${formatQuantity(extent.imageCount, "image")} x ${formatQuantity(extent.drawsPerImage, "draw")}`;
  const reused = extent.reusedLosses === 0 ? "" : `, ${formatCount(extent.reusedLosses)} losses known before`;
  const head = [
    `${draws}, ${sizesText(report)}, ${device} (${provider}), seed ${seed}${reused}`,
    ...(extent.stoppedBy === "until" && settings.until !== null
      ? [
          `Stopped when the widest interval was ±${formatPercent(100 * extent.halfWidth)} of the base model's loss (--until ${settings.until}).`,
        ]
      : []),
    "Differences are paired sample by sample, with 95 % confidence intervals; below 0 is better.",
    "",
  ].join("\n");
  const overall = files.length > 1 ? [`${out.style.bold("All files")}\n${recommendation.reason}\n`] : [];
  return [
    ...warnings.map((warning) => `${out.style.yellow("warning")}: ${warning}\n`),
    head,
    ...files.map((file) => fileText(file, report, out)),
    ...overall,
  ].join("\n");
}

function sizesText({ settings: { buckets, width, height } }: BenchReport): string {
  const size = `${width}x${height} px`;
  return buckets.length === 0
    ? size
    : `${formatQuantity(buckets.length, "size")} of about the area of ${size}`;
}

function fileText(file: FileResult, { base, bands, settings }: BenchReport, out: OutputStream): string {
  const rows: Row[] = [
    { rank: null, result: null },
    ...file.ranks.flatMap((rank) => rank.multipliers.map((result) => ({ rank, result }))),
  ];
  const { multipliers } = settings;
  const isPlain = multipliers.length === 1 && multipliers[0] === 1;
  const names: Column<Row>[] = [
    { title: "rank", align: "right", value: ({ rank }) => rankLabel(file, rank?.rank ?? 0) },
    ...(isPlain
      ? []
      : [
          {
            title: "strength",
            align: "right" as const,
            value: ({ result }: Row) => (result === null ? "-" : String(result.multiplier)),
          },
        ]),
  ];
  const losses = renderTable(rows, [...names, ...lossColumns(file, base, out)], out);
  const byBand = renderTable(rows, [...names, ...bandColumns(base, bands)], out);
  const title = out.style.bold(formatPath(file.path));
  const mixed = file.versusUniform === null ? "" : `${file.versusUniform.sentence}\n`;
  return `${title}\n${losses}${file.recommendation.reason}\n${mixed}\n${out.style.bold("mean loss by timestep")}\n${byBand}`;
}

function lossColumns(file: FileResult, base: BaseResult, out: OutputStream): Column<Row>[] {
  const { recommendation, maxRank } = file;
  // Of one rank there is nothing to compare it with, nor a size to save.
  const ofSeveralRanks = (column: Column<Row>) => (file.ranks.length > 1 ? [column] : []);
  return [
    { title: "loss", align: "right", value: ({ result }) => formatLoss(result?.meanLoss ?? base.meanLoss) },
    ...ofSeveralRanks({
      title: `against rank ${maxRank}`,
      value: ({ result }) => formatPaired(result?.versusFullRank ?? null),
    }),
    { title: "against base", value: ({ result }) => formatPaired(result?.versusBase ?? null) },
    {
      title: "gain",
      align: "right",
      value: ({ result }) => (result?.gainKept == null ? "-" : `${(100 * result.gainKept).toFixed(1)} %`),
    },
    {
      title: "size",
      align: "right",
      value: ({ rank }) => (rank === null ? "-" : formatBytes(rank.fileSizeBytes)),
    },
    ...ofSeveralRanks({
      title: "of full",
      align: "right",
      value: ({ rank }) => (rank === null ? "-" : `${Math.round(100 * rank.relativeSize)} %`),
    }),
    {
      title: "step",
      align: "right",
      value: ({ rank }) => formatStep(rank === null ? base.secondsPerStep : rank.secondsPerStep),
    },
    {
      title: "",
      value: ({ rank, result }) => {
        if (rank === null || result === null) return "base model";
        const isRecommended =
          rank.rank === recommendation.rank && result.multiplier === recommendation.multiplier;
        return isRecommended ? out.style.green("<- recommended") : "";
      },
    },
  ];
}

function bandColumns(base: BaseResult, bands: readonly TimestepBand[]): Column<Row>[] {
  return bands.map(({ firstTimestep, lastTimestep }, index) => ({
    title: `${firstTimestep}-${lastTimestep}`,
    align: "right",
    value: ({ result }) => formatLoss(result === null ? base.bands[index]! : result.bands[index]!.meanLoss),
  }));
}

/** `-0.0208 [-0.0224, -0.0192]` */
function formatPaired(difference: PairedDifference | null): string {
  if (difference === null) return "-";
  const { mean, ciLow, ciHigh } = difference;
  if (!Number.isFinite(ciHigh)) return `${formatDifference(mean, mean)} (one image)`;
  const largest = Math.max(Math.abs(ciLow), Math.abs(ciHigh));
  const format = (value: number) => formatDifference(value, largest);
  return `${format(mean)} [${format(ciLow)}, ${format(ciHigh)}]`;
}

/** `120 ms`, `2.7 s`. */
function formatStep(seconds: number | null): string {
  if (seconds === null) return "-";
  return seconds < 0.9995 ? `${Math.round(1000 * seconds)} ms` : `${seconds.toPrecision(2)} s`;
}
