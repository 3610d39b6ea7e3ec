/** What the charts of a rank comparison show: one point for every file and rank. */

import type {
  BenchReport,
  FileResult,
  MultiplierResult,
  PairedDifference,
  RankResult,
} from "../../evaluation/bench-types.js";
import { isMix, rankTitle } from "../../evaluation/rank-name.js";

export interface Interval {
  readonly low: number;
  readonly high: number;
}

export interface RankPoint {
  /** Index in `BenchReport.files`. */
  readonly file: number;
  readonly fileName: string;
  readonly rank: number;
  /** `rank 8`, `ranks to 16`. */
  readonly rankTitle: string;
  /** Its modules have ranks of their own, up to `rank`. */
  readonly isMix: boolean;
  readonly sizeBytes: number;
  /** At the multiplier that is recommended for the file. */
  readonly result: MultiplierResult;
  /** The 95 % interval of the difference to the best point, put around the best point's loss; null for itself, and of one image. */
  readonly lossInterval: Interval | null;
  /** In percent of the largest gain; null where nothing is better than the base model. */
  readonly gainPercent: number | null;
  readonly gainInterval: Interval | null;
  /** Recommended for its file. */
  readonly isRecommended: boolean;
  readonly isBest: boolean;
}

/** Every file and rank, at the strength that is recommended for the file. */
export function rankPoints(report: BenchReport): RankPoint[] {
  const { bestFile, bestRank, bestMultiplier } = report.recommendation;
  const bestLoss = bestResult(report).meanLoss;
  const gain = report.base.meanLoss - bestLoss;
  return report.files.flatMap((file, index) =>
    file.ranks.map((entry): RankPoint => {
      const result = resultAt(entry, file.recommendation.multiplier);
      const interval = finiteInterval(result.versusBest);
      return {
        file: index,
        fileName: file.name,
        rank: entry.rank,
        rankTitle: rankTitle(file, entry.rank),
        isMix: isMix(file, entry.rank),
        sizeBytes: entry.fileSizeBytes,
        result,
        lossInterval: interval && { low: bestLoss + interval.low, high: bestLoss + interval.high },
        gainPercent: result.gainKept === null ? null : 100 * result.gainKept,
        gainInterval:
          interval === null || gain <= 0
            ? null
            : { low: 100 * (1 - interval.high / gain), high: 100 * (1 - interval.low / gain) },
        isRecommended: entry.rank === file.recommendation.rank,
        isBest: index === bestFile && entry.rank === bestRank && result.multiplier === bestMultiplier,
      };
    }),
  );
}

/** A mix has a mark of its own: its place is that of its largest rank. */
export function pointSymbol({ isMix }: RankPoint): "diamond2" | "circle" {
  return isMix ? "diamond2" : "circle";
}

/** What has the lowest mean loss of all that was measured. */
export function bestResult({ files, recommendation }: BenchReport): MultiplierResult {
  const { bestFile, bestRank, bestMultiplier } = recommendation;
  return resultAt(rankOf(files[bestFile]!, bestRank), bestMultiplier);
}

export function rankOf(file: FileResult, rank: number): RankResult {
  return file.ranks.find((entry) => entry.rank === rank)!;
}

export function resultAt({ multipliers }: RankResult, multiplier: number): MultiplierResult {
  return multipliers.find((entry) => entry.multiplier === multiplier)!;
}

/** Null of one image: infinite in the library, null in a report that was read from JSON. */
export function finiteInterval(difference: PairedDifference | null): Interval | null {
  if (difference === null) return null;
  const { ciLow, ciHigh } = difference;
  return Number.isFinite(ciLow) && Number.isFinite(ciHigh) && ciLow !== null && ciHigh !== null
    ? { low: ciLow, high: ciHigh }
    : null;
}

/** Whether any comparison has an interval. */
export function hasIntervals(report: BenchReport): boolean {
  return rankPoints(report).some(({ lossInterval, result }) =>
    lossInterval !== null ? true : finiteInterval(result.versusBase) !== null,
  );
}
