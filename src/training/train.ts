/** Training runs from their first step to their last. */

import { randomInt } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { writeError } from "../io/index.js";
import type { TrainConfig, TrainOverrides } from "./config.js";
import { resumeTrainConfig } from "./config.js";
import type { TrainHooks, TrainResult } from "./events.js";
import { LossAverages } from "./metrics-averages.js";
import { MetricsLog } from "./metrics-log.js";
import { prepareRun } from "./prepare.js";
import { metricsPath } from "./run-files.js";
import { type RunProgress, restoreRunState, runIdentities, savedSizes } from "./run-state.js";
import { runSteps } from "./run-steps.js";
import { readTrainState } from "./state.js";

/** Seeds and session ids are drawn below this: they survive every reader's idea of an integer. */
const RANDOM_LIMIT = 2 ** 31;

/**
 * Trains an adapter from a fresh start.
 *
 * @throws {DyloraError} before the first step for everything that can be known then (configuration, files, device, data);
 * later `E_DIVERGED`, `E_WRITE`, `E_MEMORY`. What was saved before stays.
 */
export async function train(config: TrainConfig, hooks: TrainHooks): Promise<TrainResult> {
  const seed = config.seed ?? randomInt(RANDOM_LIMIT);
  await makeOutputDir(config.outputDir);
  const run = await prepareRun({ ...config, seed }, seed, hooks);
  const identities = await runIdentities(run);
  const progress: RunProgress = {
    step: 0,
    averages: new LossAverages(),
    startedAt: new Date(),
    sessionId: randomInt(RANDOM_LIMIT),
  };
  const log = await MetricsLog.create(metricsPath(config.outputDir, config.outputName));
  return runSteps({ run, progress, identities, log, resumedFromStep: null, estimatedPeakBytes: 0 }, hooks);
}

/**
 * Goes on from a saved state as if the run had never stopped.
 *
 * @param overrides - options that were given explicitly; what the state depends on may not change
 * @throws {DyloraError} as {@link train}; `E_NOT_FOUND`, `E_FORMAT`, `E_INCOMPATIBLE` for the state, `E_CONFIG` for an option
 * that may not change
 */
export async function resume(
  stateDir: string,
  overrides: TrainOverrides,
  hooks: TrainHooks,
): Promise<TrainResult> {
  const state = await readTrainState(stateDir);
  const saved = state.config as unknown as TrainConfig;
  const config = resumeTrainConfig(saved, overrides);
  await makeOutputDir(config.outputDir);
  const run = await prepareRun(config, config.seed!, hooks, savedSizes(state));
  hooks.onEvent({ type: "resuming", stateDir, fromStep: state.step, totalSteps: run.totalSteps });
  const identities = await runIdentities(run);
  const progress = restoreRunState(run, state, identities);
  const log = await MetricsLog.resume(metricsPath(config.outputDir, config.outputName), progress.step);
  return runSteps(
    { run, progress, identities, log, resumedFromStep: state.step, estimatedPeakBytes: 0 },
    hooks,
  );
}

async function makeOutputDir(dir: string): Promise<void> {
  await mkdir(dir, { recursive: true }).catch((cause: unknown) => {
    throw writeError(dir, cause, { note: "Nothing was started. Choose another --output_dir." });
  });
}
