import type { BenchReport, FileResult, PairedDifference, RankResult } from "../evaluation/bench-types.js";
import {
  formatBytes,
  formatCount,
  formatDifference,
  formatLoss,
  formatPath,
  formatQuantity,
} from "./format.js";
import { renderTable } from "./table.js";
import type { OutputStream } from "./terminal.js";

/** A rank comparison as one table per file, with the recommended rank and the reason. */
export function benchText(report: BenchReport, out: OutputStream): string {
  const warnings = report.warnings.map((warning) => `${out.style.yellow("warning")}: ${warning}\n`);
  const head = [
    `${formatQuantity(report.imageCount, "image")}, ${formatCount(report.sampleCount)} losses per rank, ${sizesText(report)}, ${report.device} (${report.provider}), seed ${report.seed}`,
    "Differences are paired sample by sample, with 95 % confidence intervals; below 0 is better.",
    "",
  ].join("\n");
  return [...warnings, head, ...report.files.map((file) => fileText(file, report.baseMeanLoss, out))].join(
    "\n",
  );
}

function sizesText({ buckets, width, height }: BenchReport): string {
  const size = `${width}x${height} px`;
  return buckets.length === 0
    ? size
    : `${formatQuantity(buckets.length, "size")} of about the area of ${size}`;
}

function fileText(file: FileResult, baseMeanLoss: number, out: OutputStream): string {
  const rows: (RankResult | null)[] = [null, ...file.ranks];
  const fullRank = file.ranks.find(({ rank }) => rank === file.maxRank);
  const baseVersusFull = fullRank === undefined ? null : negated(fullRank.versusBase);
  const recommended = (row: RankResult | null) => row?.rank === file.recommendedRank;
  const table = renderTable<RankResult | null>(
    rows,
    [
      { title: "rank", align: "right", value: (row) => (row === null ? "0" : String(row.rank)) },
      { title: "mean loss", align: "right", value: (row) => formatLoss(row?.meanLoss ?? baseMeanLoss) },
      {
        title: `against rank ${file.maxRank}`,
        value: (row) => formatPaired(row === null ? baseVersusFull : row.versusFullRank),
      },
      { title: "against base", value: (row) => formatPaired(row === null ? null : row.versusBase) },
      {
        title: "size",
        align: "right",
        value: (row) => (row === null ? "-" : formatBytes(row.fileSizeBytes)),
      },
      {
        title: "",
        value: (row) =>
          row === null ? "base model" : recommended(row) ? out.style.green("<- recommended") : "",
      },
    ],
    out,
  );
  return `${out.style.bold(formatPath(file.path))}\n${table}${file.recommendation}\n`;
}

function formatPaired(difference: PairedDifference | null): string {
  if (difference === null) return "-";
  const { mean, ciLow, ciHigh } = difference;
  if (!Number.isFinite(ciHigh - ciLow)) return `${formatDifference(mean, mean)} [too few images]`;
  const largest = Math.max(Math.abs(mean), Math.abs(ciLow), Math.abs(ciHigh));
  const format = (value: number) => formatDifference(value, largest);
  return `${format(mean)} [${format(ciLow)}, ${format(ciHigh)}]`;
}

function negated({ mean, ciLow, ciHigh }: PairedDifference): PairedDifference {
  return { mean: -mean, ciLow: -ciHigh, ciHigh: -ciLow };
}
