/** A rank comparison whose numbers are made up, for tests of what is done with one. */

import type {
  BenchReport,
  FileResult,
  LossSummary,
  MultiplierResult,
  PairedDifference,
} from "../../src/evaluation/bench-types.js";
import { rankName } from "../../src/evaluation/rank-name.js";
import { capitalized } from "../../src/format.js";

export interface SampleReportOptions {
  readonly files?: readonly {
    readonly name: string;
    readonly path?: string;
    readonly ranks: readonly number[];
    /** A mix of ranks up to the last of `ranks`. */
    readonly isMixed?: boolean;
    /** Default: what the ranks of a uniform file take. */
    readonly sizeBytes?: number;
  }[];
  readonly multipliers?: readonly number[];
  /** Of one there are no intervals. */
  readonly images?: number;
}

const BASE_LOSS = 0.1432;
const BANDS = [0, 250, 500, 750];
/** What the base model loses at each band of timesteps, against its mean. */
const BAND_FACTORS = [1.9, 1.1, 0.65, 0.35];

/** Losses fall with the rank up to half of the full one, and rise a little beyond. */
export function sampleBenchReport(options: SampleReportOptions = {}): BenchReport {
  const {
    files = [{ name: "cat.safetensors", ranks: [4, 8, 12, 16] }],
    multipliers = [1],
    images = 12,
  } = options;
  const imageList = Array.from({ length: images }, (_, index) => ({
    key: `held-out/picture-${index + 1}.png`,
    path: `/data/held-out/picture-${index + 1}.png`,
    caption: index % 2 === 0 ? `a cat <b>sitting</b> on sofa ${index}` : `a cat & a dog, picture ${index}`,
  }));
  const lossOf = (file: number, rank: number, maxRank: number, multiplier: number) => {
    const place = rank / maxRank;
    const gain = 0.02 * (1 - Math.exp(-7 * place)) - 0.0012 * Math.max(0, place - 0.5);
    return BASE_LOSS - gain * (1 - 0.5 * (multiplier - 1) ** 2) + 0.0009 * file;
  };
  const all = files.flatMap((file, index) =>
    file.ranks.flatMap((rank) =>
      multipliers.map((multiplier) => ({
        file: index,
        rank,
        multiplier,
        loss: lossOf(index, rank, file.ranks.at(-1)!, multiplier),
      })),
    ),
  );
  const best = all.reduce((lowest, entry) => (entry.loss < lowest.loss ? entry : lowest));
  const difference = (mean: number, reach: number): PairedDifference =>
    images === 1
      ? { mean, ciLow: Number.NEGATIVE_INFINITY, ciHigh: Number.POSITIVE_INFINITY }
      : { mean, ciLow: mean - reach, ciHigh: mean + reach };
  const losses = (loss: number, full: number | null, factor: number): LossSummary => ({
    meanLoss: loss * factor,
    versusFullRank: full === null ? null : difference((loss - full) * factor, 0.0005 * factor),
    versusBase: difference((loss - BASE_LOSS) * factor, 0.002 * factor),
  });
  const fileResults = files.map((file, index): FileResult => {
    const maxRank = file.ranks.at(-1)!;
    const sizeBytes = (rank: number) => file.sizeBytes ?? 75_000 + 50_000 * rank;
    const recommended =
      file.ranks.find(
        (rank) => lossOf(index, rank, maxRank, 1) - lossOf(index, maxRank, maxRank, 1) < 0.0006,
      ) ?? maxRank;
    return {
      path: file.path ?? `/models/${file.name}`,
      name: file.name,
      isDylora: file.ranks.length > 1,
      dialect: "kohya",
      maxRank,
      isMixed: file.isMixed ?? false,
      ranks: file.ranks.map((rank) => ({
        rank,
        fileSizeBytes: sizeBytes(rank),
        relativeSize: sizeBytes(rank) / sizeBytes(maxRank),
        secondsPerStep: 0.08 + 0.001 * rank,
        multipliers: multipliers.map((multiplier): MultiplierResult => {
          const loss = lossOf(index, rank, maxRank, multiplier);
          const full = rank === maxRank ? null : lossOf(index, maxRank, maxRank, multiplier);
          const isBest = best.file === index && best.rank === rank && best.multiplier === multiplier;
          return {
            multiplier,
            ...losses(loss, full, 1),
            versusBest: isBest ? null : difference(loss - best.loss, 0.0004),
            gainKept: (BASE_LOSS - loss) / (BASE_LOSS - best.loss),
            bands: BAND_FACTORS.map((factor) => losses(loss, full, factor)),
            lossByImage: imageList.map((_, image) => loss * (0.7 + 0.05 * image)),
          };
        }),
      })),
      recommendation: {
        rank: recommended,
        multiplier: 1,
        bestRank: recommended,
        bestMultiplier: 1,
        reason: `${capitalized(rankName({ maxRank, isMixed: file.isMixed ?? false }, recommended))} is as good as any.`,
      },
      versusUniform: null,
    };
  });
  const chosen = fileResults[best.file]!.recommendation;
  return {
    date: "2026-11-23T01:02:03.000Z",
    settings: {
      modelPath: "/models/sd15.safetensors",
      dataDir: "/data/held-out",
      width: 512,
      height: 512,
      buckets: [],
      device: "cpu",
      provider: "CPUExecutionProvider",
      executionMode: "fast",
      threads: null,
      batchSize: 1,
      predictionType: "epsilon",
      zeroTerminalSnr: false,
      clipSkip: 1,
      seed: 0,
      multipliers,
      tolerance: 0.01,
      until: null,
      confidence: 0.95,
    },
    extent: {
      imageCount: images,
      drawsPerImage: 4,
      sampleCount: 4 * images,
      measuredLosses: 4 * images * (1 + all.length),
      reusedLosses: 0,
      halfWidth: 0.003,
      stoppedBy: "samples",
    },
    bands: BANDS.map((firstTimestep) => ({ firstTimestep, lastTimestep: firstTimestep + 249 })),
    images: imageList,
    base: {
      meanLoss: BASE_LOSS,
      bands: BAND_FACTORS.map((factor) => BASE_LOSS * factor),
      lossByImage: imageList.map((_, image) => BASE_LOSS * (0.7 + 0.05 * image)),
      secondsPerStep: 0.08,
    },
    files: fileResults,
    recommendation: {
      ...chosen,
      file: best.file,
      bestFile: best.file,
      bestRank: best.rank,
      bestMultiplier: best.multiplier,
      reason: `${capitalized(rankName(fileResults[best.file]!, chosen.rank))} is not shown to be worse than the best, ${rankName(fileResults[best.file]!, best.rank)}: +0.00021 [-0.00010, +0.00052] (${images} images).`,
    },
    warnings: [],
    seconds: 214.5,
    peakRssBytes: 812_000_000,
  };
}
