/** What a rank comparison gives, and what it asks of its caller. */

import type { DenoiserOptions } from "../denoiser/denoiser.js";
import type { Checkpoint } from "../models/checkpoint/index.js";
import type { PredictionType } from "../models/config.js";
import type { DeviceName } from "../runtime/device.js";
import type { ExecutionMode } from "../runtime/session.js";
import type { LoadedAdapter } from "../sampling/loaded-adapter.js";
import type { LossStore } from "./loss-store.js";

/**
 * Mean of paired differences with its 95 % confidence interval, which is infinite where there is one image (JSON has null for that). The mean
 * need not be its middle.
 */
export interface PairedDifference {
  readonly mean: number;
  readonly ciLow: number;
  readonly ciHigh: number;
}

/** Noise levels that are looked at on their own: timesteps `first` to `last`, both inclusive; 0 is almost no noise. */
export interface TimestepBand {
  readonly firstTimestep: number;
  readonly lastTimestep: number;
}

/** An image that was measured on. */
export interface BenchImage {
  /** `<subset>/<file name>`. */
  readonly key: string;
  readonly path: string;
  readonly caption: string;
}

/** Losses of an adapter over some of the samples: all of them, or those of one band of timesteps. */
export interface LossSummary {
  /** The mean over images of each image's mean. */
  readonly meanLoss: number;
  /** Loss here minus loss at the file's full rank with the same multiplier, in pairs; null for the full rank itself. */
  readonly versusFullRank: PairedDifference | null;
  /** Loss here minus loss of the base model without adapter, in pairs. */
  readonly versusBase: PairedDifference;
}

/** One file at one rank with one multiplier. */
export interface MultiplierResult extends LossSummary {
  /** Factor on the adapter's strength, as `<lora:name:0.8>` has it. */
  readonly multiplier: number;
  /** Loss here minus the lowest mean loss of all files, ranks and multipliers, in pairs; null for that one itself. */
  readonly versusBest: PairedDifference | null;
  /**
   * Share of the largest improvement on the base model that is kept here: 1 for the best of all, 0 for the base model,
   * negative for what is worse than it. Null where nothing improves on the base model.
   */
  readonly gainKept: number | null;
  /** In the order of `BenchReport.bands`. */
  readonly bands: readonly LossSummary[];
  /** Mean loss of every image, in the order of `BenchReport.images`. */
  readonly lossByImage: readonly number[];
}

/** One file at one rank. */
export interface RankResult {
  readonly rank: number;
  /** Size of the file that `extract` writes for this rank, in bytes. */
  readonly fileSizeBytes: number;
  /** That size as a share of the size at full rank. */
  readonly relativeSize: number;
  /**
   * Seconds of one execution of the denoiser with one batch, forward only, at this rank: the median of all that were
   * measured on this machine with these settings. Null where none was (they came from a cache of another machine).
   */
  readonly secondsPerStep: number | null;
  /** In the order of `BenchSettings.multipliers`. */
  readonly multipliers: readonly MultiplierResult[];
}

/** The choice among what was measured, and why. */
export interface Recommendation {
  readonly rank: number;
  readonly multiplier: number;
  /** What has the lowest mean loss. */
  readonly bestRank: number;
  readonly bestMultiplier: number;
  /** One sentence with the numbers that decided. */
  readonly reason: string;
}

export interface FileResult {
  /** A file, or the folder that PEFT and diffusers save. */
  readonly path: string;
  /** Shortest end of the path that no other file has: `cat.safetensors`, or `a/cat.safetensors`. */
  readonly name: string;
  readonly isDylora: boolean;
  /** Whose names its tensors have. */
  readonly dialect: string;
  readonly maxRank: number;
  /** Whether its modules have ranks of their own, up to `maxRank`. */
  readonly isMixed: boolean;
  /** Ascending by rank; the full rank is always the last. */
  readonly ranks: readonly RankResult[];
  /** The smallest rank of this file that is good enough. */
  readonly recommendation: Recommendation;
  /** Where its modules have different ranks and another file has one rank for all in that size; null elsewhere. */
  readonly versusUniform: VersusUniform | null;
}

/** A file of mixed ranks beside the largest DyLoRA rank that takes no more space (2 % aside). */
export interface VersusUniform {
  /** Index in `BenchReport.files`. */
  readonly file: number;
  readonly rank: number;
  readonly fileSizeBytes: number;
  /** Loss of the mixed ranks minus loss of the one rank, in pairs, both at strength 1, or at the first one that was measured. */
  readonly difference: PairedDifference;
  /** One sentence with the numbers. */
  readonly sentence: string;
}

/** The choice among all files. */
export interface OverallRecommendation extends Recommendation {
  /** Index in `BenchReport.files`. */
  readonly file: number;
  readonly bestFile: number;
}

/** The base model without adapter ("rank 0"). */
export interface BaseResult {
  readonly meanLoss: number;
  /** Mean loss by band, in the order of `BenchReport.bands`. */
  readonly bands: readonly number[];
  readonly lossByImage: readonly number[];
  readonly secondsPerStep: number | null;
}

/** What everything was measured with. */
export interface BenchSettings {
  readonly modelPath: string;
  readonly dataDir: string;
  readonly width: number;
  readonly height: number;
  /** The sizes that images were measured at, by width, then height; empty without buckets. */
  readonly buckets: readonly {
    readonly width: number;
    readonly height: number;
    readonly imageCount: number;
  }[];
  readonly device: DeviceName;
  readonly provider: string;
  readonly executionMode: ExecutionMode;
  /** Null: onnxruntime's default, the number of physical cores. */
  readonly threads: number | null;
  readonly batchSize: number;
  readonly predictionType: PredictionType;
  readonly zeroTerminalSnr: boolean;
  readonly clipSkip: number;
  readonly seed: number;
  /** As they were asked for. */
  readonly multipliers: readonly number[];
  /** Share of the gain that the recommended rank may lose, `--tolerance`. */
  readonly tolerance: number;
  /** `--until`; null: the number of draws was fixed. */
  readonly until: number | null;
  /** Of every interval: 0.95. */
  readonly confidence: number;
}

/** How much was measured. */
export interface BenchExtent {
  readonly imageCount: number;
  /** Noise and timestep draws per image, the same number in each band. */
  readonly drawsPerImage: number;
  /** Losses for each file, rank and multiplier: images times draws per image. */
  readonly sampleCount: number;
  /** Losses that this run computed, of all files, ranks and multipliers and the base model. */
  readonly measuredLosses: number;
  /** Losses that were there already: in the cache, or of a file with the very same content. */
  readonly reusedLosses: number;
  /**
   * Half the width of the widest interval that `--until` looks at, as a share of the base model's loss; null (in JSON)
   * where there are too few images for one, Infinity in the library.
   */
  readonly halfWidth: number;
  /** Why no more was measured: `samples` is the number of draws asked for, `until` that the intervals are narrow enough. */
  readonly stoppedBy: "samples" | "until";
}

export interface BenchReport {
  /** When it was finished, ISO 8601. */
  readonly date: string;
  readonly settings: BenchSettings;
  readonly extent: BenchExtent;
  /** Ascending; together all timesteps. */
  readonly bands: readonly TimestepBand[];
  readonly images: readonly BenchImage[];
  readonly base: BaseResult;
  /** In the order in which they were given. */
  readonly files: readonly FileResult[];
  /** Of all files together; of a single one the same as its own. */
  readonly recommendation: OverallRecommendation;
  readonly warnings: readonly string[];
  readonly seconds: number;
  readonly peakRssBytes: number;
}

export interface BenchProgress {
  /** What is being measured, as `rank 8 of cat.safetensors`. */
  readonly task: string;
  readonly done: number;
  readonly total: number;
  /** Of the measurement, at most; null until every adapter was executed once. */
  readonly secondsLeft: number | null;
}

/** What is to come, told before the first session is made; not where every loss is known already. */
export interface BenchPlan {
  readonly imageCount: number;
  /** Losses to compute, at most. */
  readonly losses: number;
  /** With `--until` fewer of them may be enough. */
  readonly mayStopEarly: boolean;
  /** Losses that need no computation. */
  readonly reusedLosses: number;
  readonly device: DeviceName;
  /** Peak of resident memory. */
  readonly estimatedPeakBytes: number;
}

/** What was measured, for a caller that wants to make pictures of it. */
export interface MeasuredModels {
  readonly report: BenchReport;
  readonly checkpoint: Checkpoint;
  /** What the losses were computed with; its sessions are gone. */
  readonly denoiser: DenoiserOptions;
  /** In the order of `report.files`. */
  readonly adapters: readonly LoadedAdapter[];
}

export interface BenchHooks {
  readonly onProgress: (progress: BenchProgress) => void;
  readonly signal: AbortSignal;
  readonly onPlan?: (plan: BenchPlan) => void;
  /** Where losses are looked up and kept, instead of the file that `cache` names. The caller closes it. */
  readonly losses?: LossStore;
  /** Called at the end, when all sessions of the measurement are released and their memory is free. */
  readonly onMeasured?: (measured: MeasuredModels) => Promise<void>;
}
