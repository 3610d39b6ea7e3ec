/** What a rank comparison found, in a sentence that fits above everything else. */

import type { BenchReport, FileResult } from "../../evaluation/bench-types.js";
import { isMix, rankName } from "../../evaluation/rank-name.js";
import { capitalized, formatBytes } from "../../format.js";
import { finiteInterval, hasIntervals, rankOf, resultAt } from "./points.js";
import { percent } from "./tables.js";

/** `Rank 8 is enough`. */
export function headline(report: BenchReport): string {
  const { files, recommendation } = report;
  const file = files[recommendation.file]!;
  if (!hasIntervals(report)) return "One image cannot tell the ranks apart";
  if (!beatsBase(report)) return "No rank is shown to be better than the base model";
  const rank = `rank ${recommendation.rank}`;
  if (files.length > 1) {
    return file.ranks.length > 1 ? `${stem(file)} at ${rank} is enough` : `${stem(file)} is the one to take`;
  }
  if (file.ranks.length === 1)
    return isMix(file, file.maxRank)
      ? `This mix of ranks up to ${file.maxRank} lowers the loss`
      : `This adapter of ${rank} lowers the loss`;
  if (recommendation.rank < file.maxRank) return `Rank ${recommendation.rank} is enough`;
  return `It takes the full ${rank}`;
}

/** Without the extension that every file has. */
function stem({ name }: FileResult): string {
  return name.replace(/\.safetensors$/, "");
}

/** What the recommendation gives and costs. */
export function summary(report: BenchReport): string {
  const { files, recommendation, settings } = report;
  const file = files[recommendation.file]!;
  if (!hasIntervals(report)) {
    return "Differences between images decide how far a comparison can be trusted. Measure on more before you choose.";
  }
  const entry = rankOf(file, recommendation.rank);
  const { gainKept } = resultAt(entry, recommendation.multiplier);
  const strength = settings.multipliers.length > 1 ? `, used at strength ${recommendation.multiplier},` : "";
  const kept =
    gainKept === null ? "" : ` keeps ${percent(100 * gainKept)} of the largest improvement on the base model`;
  const size = sizeText(file, entry.rank);
  if (kept === "") return size;
  const mix = isMix(file, entry.rank);
  const rank =
    files.length > 1
      ? `${stem(file)}${mix ? "" : ` at rank ${entry.rank}`}`
      : capitalized(rankName(file, entry.rank));
  return `${rank}${strength}${kept}${size === "" ? "" : ` in ${size}`}.`;
}

/** `479 kB instead of the 873 kB of rank 16` */
function sizeText(file: FileResult, rank: number): string {
  const own = formatBytes(rankOf(file, rank).fileSizeBytes);
  if (rank === file.maxRank) return own;
  return `${own} instead of the ${formatBytes(rankOf(file, file.maxRank).fileSizeBytes)} of rank ${file.maxRank}`;
}

/** Whether the best is shown to be better than the base model. */
function beatsBase({ files, recommendation }: BenchReport): boolean {
  const { bestFile, bestRank, bestMultiplier } = recommendation;
  const interval = finiteInterval(resultAt(rankOf(files[bestFile]!, bestRank), bestMultiplier).versusBase);
  return interval !== null && interval.high < 0;
}
