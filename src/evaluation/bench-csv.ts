/** A comparison as a table for spreadsheets and plots: one line for each file, rank, multiplier and band. */

import type { BenchReport, LossSummary, PairedDifference } from "./bench-types.js";

const COLUMNS = [
  ...["file", "rank", "multiplier", "first_timestep", "last_timestep", "mean_loss"],
  ...["versus_full_rank", "versus_full_rank_low", "versus_full_rank_high"],
  ...["versus_base", "versus_base_low", "versus_base_high"],
  ...["gain_kept", "file_size_bytes", "seconds_per_step", "recommended"],
] as const;

type Cell = string | number | boolean | null;

/**
 * CSV as RFC 4180 has it, with a header. The base model has an empty file name and rank 0. Fields without a value are empty:
 * shares and times stand at the lines of all timesteps only.
 */
export function benchCsv(report: BenchReport): string {
  const { base, bands, files } = report;
  const everything = {
    firstTimestep: bands[0]!.firstTimestep,
    lastTimestep: bands.at(-1)!.lastTimestep,
  };
  const spans = [everything, ...bands];
  const rows: Cell[][] = [];
  for (const [index, { firstTimestep, lastTimestep }] of spans.entries()) {
    const meanLoss = index === 0 ? base.meanLoss : base.bands[index - 1]!;
    const seconds = index === 0 ? base.secondsPerStep : null;
    rows.push([
      ...["", 0, null, firstTimestep, lastTimestep, meanLoss],
      ...[null, null, null, null, null, null, null, null, seconds, null],
    ]);
  }
  for (const { name, ranks, recommendation } of files) {
    for (const { rank, fileSizeBytes, secondsPerStep, multipliers } of ranks) {
      for (const { multiplier, gainKept, bands: ofBands, ...all } of multipliers) {
        const isRecommended = recommendation.rank === rank && recommendation.multiplier === multiplier;
        for (const [index, { firstTimestep, lastTimestep }] of spans.entries()) {
          const summary: LossSummary = index === 0 ? all : ofBands[index - 1]!;
          const facts = index === 0 ? [gainKept, fileSizeBytes, secondsPerStep, isRecommended] : [];
          rows.push([
            ...[name, rank, multiplier, firstTimestep, lastTimestep, summary.meanLoss],
            ...cells(summary.versusFullRank),
            ...cells(summary.versusBase),
            ...Array.from({ length: 4 }, (_, i) => facts[i] ?? null),
          ]);
        }
      }
    }
  }
  return [COLUMNS, ...rows].map((row) => `${row.map(field).join(",")}\r\n`).join("");
}

function cells(difference: PairedDifference | null): Cell[] {
  return difference === null
    ? [null, null, null]
    : [difference.mean, difference.ciLow, difference.ciHigh].map((value) =>
        Number.isFinite(value) ? value : null,
      );
}

function field(value: Cell): string {
  const text = value === null ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
