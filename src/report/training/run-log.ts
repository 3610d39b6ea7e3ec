/** What `metrics.jsonl` says about a run, read back into what a page shows. */

import { existsSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { DyloraError } from "../../errors.js";
import { type MetricsRecord, readMetrics } from "../../training/metrics-log.js";
import type { StartFacts } from "../../training/step-report.js";

export interface LoggedStep {
  readonly step: number;
  readonly epoch: number;
  readonly loss: number;
  readonly lossEma: number;
  /** By micro-step: the rank that was drawn, and its loss. */
  readonly draws: readonly { readonly rank: number; readonly loss: number }[];
  readonly learningRates: { readonly unet?: number; readonly textEncoder?: number };
  readonly gradNorm: number;
  readonly secondsPerStep: number;
  readonly rssBytes: number;
}

export interface LoggedValidation {
  readonly step: number;
  readonly sampleCount: number;
  /** Ascending by rank. */
  readonly byRank: readonly { readonly rank: number; readonly loss: number }[];
}

export interface LoggedPicture {
  readonly step: number;
  readonly path: string;
  readonly prompt: string;
  readonly seed: number;
  readonly rank: number;
}

/** A start, or a resumption. */
export interface LoggedStart extends StartFacts {
  /** Steps that were done before. */
  readonly step: number;
}

export interface RunLog {
  readonly path: string;
  /** Ascending; the last one says how the run is configured now. */
  readonly starts: readonly LoggedStart[];
  readonly steps: readonly LoggedStep[];
  readonly validations: readonly LoggedValidation[];
  readonly pictures: readonly LoggedPicture[];
}

/**
 * Reads the log of a run.
 *
 * @throws {DyloraError} as `readMetrics`; `E_FORMAT` for the log of a dylora that did not write down what it started
 */
export async function readRunLog(path: string): Promise<RunLog> {
  const records = await readMetrics(path);
  const starts = records.filter((record) => "started" in record).map(startOf);
  if (starts.length === 0) {
    throw new DyloraError("E_FORMAT", `read ${path}: it does not say what was started`, {
      note: "The run was logged by an older dylora, or has not begun yet.",
    });
  }
  return {
    path,
    starts,
    steps: records.filter((record) => "loss" in record).map(stepOf),
    validations: records.filter((record) => "validation" in record).map(validationOf),
    pictures: records
      .filter((record) => "samples" in record)
      .flatMap((record) => picturesOf(record, dirname(path))),
  };
}

function startOf(record: MetricsRecord): LoggedStart {
  return { ...(record.started as unknown as StartFacts), step: record.step };
}

function stepOf(record: MetricsRecord): LoggedStep {
  const { draws, ...rest } = record as unknown as Omit<LoggedStep, "draws"> & {
    draws: Record<string, { rank: number; loss: number }>;
  };
  return { ...rest, draws: Object.values(draws) };
}

function validationOf(record: MetricsRecord): LoggedValidation {
  const { sampleCount, lossByRank } = record.validation as unknown as {
    sampleCount: number;
    lossByRank: Record<string, number>;
  };
  return {
    step: record.step,
    sampleCount,
    byRank: Object.entries(lossByRank)
      .map(([rank, loss]) => ({ rank: Number(rank), loss }))
      .sort((a, b) => a.rank - b.rank),
  };
}

/** The folder of a run may have been moved: its pictures moved with it. */
function picturesOf(record: MetricsRecord, folder: string): LoggedPicture[] {
  const samples = Object.values(record.samples as unknown as Record<string, Omit<LoggedPicture, "step">>);
  return samples.map((sample) => {
    const moved = join(folder, "sample", basename(sample.path));
    return { ...sample, step: record.step, path: existsSync(sample.path) ? sample.path : moved };
  });
}
