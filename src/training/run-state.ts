/** A run's state to and from its folder. */

import { createHash } from "node:crypto";
import { stat } from "node:fs/promises";
import { EpochPlan } from "../data/index.js";
import { branchNames } from "../denoiser/factors.js";
import { readError } from "../io/index.js";
import { weightsFingerprint } from "../models/checkpoint/fingerprint.js";
import type { TrainConfig } from "./config.js";
import { LossScaler, type LossScaleState } from "./loss-scaler.js";
import { LossAverages, type LossAveragesState } from "./metrics-averages.js";
import type { PreparedRun, SettledChoices } from "./prepare.js";
import { type RunLength, runLength } from "./run-length.js";
import { compareIdentities, type JsonValue, type TrainState, writeTrainState } from "./state.js";
import { factorTensors, restoreFactor, type StateTensor } from "./state-tensors.js";
import type { TrainedModule } from "./trained-module.js";

/** What goes on over the whole run, besides the factors. */
export interface RunProgress {
  step: number;
  averages: LossAverages;
  /** Null: the run computes in float32. */
  readonly lossScaler: LossScaler | null;
  /** The validation after `step` was interrupted, and is made up for when the run goes on. */
  validationDue: boolean;
  /** Likewise the pictures after `step`. */
  samplesDue: boolean;
  readonly startedAt: Date;
  readonly sessionId: number;
}

/** What is in `progress` of the state file. */
interface SavedProgress {
  averages: LossAveragesState;
  lossScale: LossScaleState | null;
  validationDue: boolean;
  samplesDue: boolean;
  startedAt: string;
  sessionId: number;
  /** Samples of each bucket in one epoch; one number without buckets. */
  bucketSamples: readonly number[];
  settled: SettledChoices;
}

/** What the run that a state belongs to settled at its start. */
export function settledChoices(state: TrainState): SettledChoices {
  return savedProgress(state).settled;
}

/** How long the run that a state belongs to is now, before its images are counted again. */
export function savedRunLength(state: TrainState, config: TrainConfig): RunLength {
  const { bucketSamples } = savedProgress(state);
  return runLength(config, new EpochPlan(bucketSamples, config.trainBatchSize));
}

function savedProgress(state: TrainState): SavedProgress {
  return state.progress as unknown as SavedProgress;
}

/** What a run depends on besides its options. */
export async function runIdentities({ checkpoint, data }: PreparedRun): Promise<Record<string, string>> {
  const [unet, textEncoder, vae] = await Promise.all([
    weightsFingerprint(checkpoint.unet.weights),
    weightsFingerprint(checkpoint.textEncoder.weights),
    weightsFingerprint(checkpoint.vae!.weights),
  ]);
  const images = createHash("sha256");
  // Held-out images too: what a run measures on them is part of its metrics.
  const items = [...data.train.items, ...data.validation.items];
  const sizes = await Promise.all(items.map(({ imagePath }) => fileSize(imagePath)));
  // Sizes stand for contents, which take long to read; dates change with every copy.
  for (const [index, { key, caption, repeats }] of items.entries())
    images.update(JSON.stringify([key, caption, repeats, sizes[index]]));
  return {
    "U-Net": unet,
    "text encoder": textEncoder,
    VAE: vae,
    "images and captions": images.digest("hex"),
  };
}

async function fileSize(path: string): Promise<number> {
  const { size } = await stat(path).catch((cause: unknown) => {
    throw readError(path, cause);
  });
  return size;
}

/** @throws {DyloraError} `E_WRITE`; a state that lay in the folder is then still there */
export async function saveRunState(
  folder: string,
  run: PreparedRun,
  progress: RunProgress,
  identities: Readonly<Record<string, string>>,
): Promise<{ sizeBytes: number }> {
  const { averages, lossScaler, validationDue, samplesDue, startedAt, sessionId } = progress;
  const saved: SavedProgress = {
    averages: averages.state,
    lossScale: lossScaler?.state ?? null,
    validationDue,
    samplesDue,
    startedAt: startedAt.toISOString(),
    sessionId,
    bucketSamples: run.batches.sampler.plan.bucketSamples,
    settled: { sizes: run.sizes, device: run.device, executionMode: run.executionMode },
  };
  const config: TrainConfig = { ...run.config, seed: run.seed };
  return writeTrainState(
    folder,
    {
      step: progress.step,
      config: config as unknown as JsonValue,
      identities,
      progress: saved as unknown as JsonValue,
    },
    moduleTensors(run.modules),
  );
}

/** Everything that the steps of a run change: factors and what the optimizer remembers, as they lie in memory. */
export function moduleTensors(modules: readonly TrainedModule[]): StateTensor[] {
  return modules.flatMap(({ factors, down, up }) => {
    const names = branchNames(factors.target);
    return [...factorTensors(names.down, factors.down, down), ...factorTensors(names.up, factors.up, up)];
  });
}

/**
 * Fills a prepared run with a state.
 *
 * @throws {DyloraError} `E_INCOMPATIBLE` where model, data or network are not those of the state
 */
export function restoreRunState(
  run: PreparedRun,
  state: TrainState,
  identities: Readonly<Record<string, string>>,
): RunProgress {
  compareIdentities(state.identities, identities);
  for (const { factors, down, up } of run.modules) {
    const names = branchNames(factors.target);
    restoreFactor(state.tensors, names.down, factors.down, down);
    restoreFactor(state.tensors, names.up, factors.up, up);
  }
  const { averages, lossScale, validationDue, samplesDue, startedAt, sessionId } = savedProgress(state);
  return {
    step: state.step,
    averages: new LossAverages(averages),
    lossScaler: run.computeType === "float16" ? new LossScaler(lossScale ?? undefined) : null,
    validationDue,
    samplesDue,
    startedAt: new Date(startedAt),
    sessionId,
  };
}
