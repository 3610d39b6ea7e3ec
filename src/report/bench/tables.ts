/** The numbers of a rank comparison, as tables. */

import type { BenchReport, PairedDifference } from "../../evaluation/bench-types.js";
import { rankTitle } from "../../evaluation/rank-name.js";
import { formatBytes, formatDifference, formatLoss } from "../../format.js";
import { type Html, type HtmlValue, html } from "../html.js";
import type { DataTable, TableRow } from "../table.js";
import { finiteInterval, resultAt } from "./points.js";

/** Every file and rank with its loss and what it was compared with. */
export function resultTable(report: BenchReport): Omit<DataTable, "id"> {
  const { files, base, recommendation, settings } = report;
  const several = files.length > 1;
  const timed = files.some(({ ranks }) => ranks.some(({ secondsPerStep }) => secondsPerStep !== null));
  const rows = files.flatMap((file, index): TableRow[] =>
    file.ranks.map((entry) => {
      const result = resultAt(entry, file.recommendation.multiplier);
      const { rank } = entry;
      const recommended = index === recommendation.file && rank === recommendation.rank;
      const enough = file.ranks.length > 1 && rank === file.recommendation.rank;
      return {
        highlighted: recommended,
        cells: [
          html`${rowName(several ? file.name : null, rankTitle(file, rank))}${recommended ? " (recommended)" : enough ? " (enough in this file)" : null}`,
          formatLoss(result.meanLoss),
          pairedText(result.versusFullRank),
          pairedText(result.versusBase),
          result.gainKept === null ? "–" : percent(100 * result.gainKept),
          formatBytes(entry.fileSizeBytes),
          ...(timed ? [secondsText(entry.secondsPerStep)] : []),
        ],
      };
    }),
  );
  return {
    caption: `Differences are paired sample by sample, with 95 % intervals; below 0 is better. ${
      several ? "Against full rank: the full rank of the same file. " : ""
    }${settings.multipliers.length > 1 ? `${several ? "Each file is" : "All are"} at the strength that is recommended${several ? " for it" : ""}. ` : ""}Gain kept: share of the largest improvement on the base model.`,
    columns: [
      { title: several ? "File and rank" : "Rank" },
      { title: "Mean loss", numeric: true },
      { title: "Against full rank", numeric: true },
      { title: "Against base model", numeric: true },
      { title: "Gain kept", numeric: true },
      { title: "File size", numeric: true },
      ...(timed ? [{ title: "Per step", numeric: true }] : []),
    ],
    rows: [
      {
        cells: [
          "base model",
          formatLoss(base.meanLoss),
          "–",
          "–",
          "0 %",
          "–",
          ...(timed ? [secondsText(base.secondsPerStep)] : []),
        ],
      },
      ...rows,
    ],
  };
}

/** `cat.safetensors, rank 8`, which never ends a line between `rank` and `8`. */
export function rowName(fileName: string | null, rank: string): Html {
  return html`${fileName === null ? null : `${fileName}, `}<span class="whole">${rank}</span>`;
}

/** `−0.0208`, and below it `[−0.0224, −0.0192]`. */
export function pairedText(difference: PairedDifference | null): HtmlValue {
  if (difference === null) return "–";
  const interval = finiteInterval(difference);
  const { mean } = difference;
  if (interval === null) return html`${minus(formatDifference(mean, mean))} <small>one image</small>`;
  const largest = Math.max(Math.abs(mean), Math.abs(interval.low), Math.abs(interval.high));
  const format = (value: number) => minus(formatDifference(value, largest));
  return html`${format(mean)} <small>[${format(interval.low)}, ${format(interval.high)}]</small>`;
}

/** A hyphen is too short to be seen before a number. */
function minus(text: string): string {
  return text.replace(/^-/, "−");
}

/** `99.8 %`; 100 % only where it is all. */
export function percent(value: number): string {
  const text = value.toFixed(1);
  return `${minus(text === "100.0" ? (value === 100 ? "100" : "100.0") : text)} %`;
}

function secondsText(seconds: number | null): string {
  if (seconds === null) return "–";
  return seconds < 1 ? `${(1000 * seconds).toFixed(0)} ms` : `${seconds.toFixed(2)} s`;
}
