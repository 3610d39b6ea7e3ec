/** A run's state to and from its folder. */

import { createHash } from "node:crypto";
import { branchNames } from "../denoiser/factors.js";
import { weightsFingerprint } from "../models/checkpoint/fingerprint.js";
import type { TrainConfig } from "./config.js";
import { LossAverages, type LossAveragesState } from "./metrics-averages.js";
import type { NetworkSizes } from "./network.js";
import type { PreparedRun } from "./prepare.js";
import { compareIdentities, type JsonValue, type TrainState, writeTrainState } from "./state.js";
import { factorTensors, restoreFactor } from "./state-tensors.js";

/** What goes on over the whole run, besides the factors. */
export interface RunProgress {
  step: number;
  readonly averages: LossAverages;
  readonly startedAt: Date;
  readonly sessionId: number;
}

/** What is in `progress` of the state file. */
interface SavedProgress {
  averages: LossAveragesState;
  startedAt: string;
  sessionId: number;
  /** Sizes may come from a file (`--dim_from_weights`) that need not be there any more when the run goes on. */
  sizes: NetworkSizes;
}

/** The sizes of the network that a state belongs to. */
export function savedSizes(state: TrainState): NetworkSizes {
  return (state.progress as unknown as SavedProgress).sizes;
}

/** What a run depends on besides its options. */
export async function runIdentities({ checkpoint, data }: PreparedRun): Promise<Record<string, string>> {
  const [unet, textEncoder, vae] = await Promise.all([
    weightsFingerprint(checkpoint.unet.weights),
    weightsFingerprint(checkpoint.textEncoder.weights),
    weightsFingerprint(checkpoint.vae!.weights),
  ]);
  const images = createHash("sha256");
  for (const { key, caption, repeats } of data.train.items)
    images.update(JSON.stringify([key, caption, repeats]));
  return {
    "U-Net": unet,
    "text encoder": textEncoder,
    VAE: vae,
    "images and captions": images.digest("hex"),
  };
}

/** @throws {DyloraError} `E_WRITE`; a state that lay in the folder is then still there */
export async function saveRunState(
  folder: string,
  run: PreparedRun,
  progress: RunProgress,
  identities: Readonly<Record<string, string>>,
): Promise<{ sizeBytes: number }> {
  const tensors = run.modules.flatMap(({ factors, down, up }) => {
    const names = branchNames(factors.target);
    return [...factorTensors(names.down, factors.down, down), ...factorTensors(names.up, factors.up, up)];
  });
  const saved: SavedProgress = {
    averages: progress.averages.state,
    startedAt: progress.startedAt.toISOString(),
    sessionId: progress.sessionId,
    sizes: run.sizes,
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
    tensors,
  );
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
  const saved = state.progress as unknown as SavedProgress;
  return {
    step: state.step,
    averages: new LossAverages(saved.averages),
    startedAt: new Date(saved.startedAt),
    sessionId: saved.sessionId,
  };
}
