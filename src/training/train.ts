/** Training runs from their first step to their last. */

import { randomInt } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { DyloraError } from "../errors.js";
import { writeError } from "../io/index.js";
import { freeMemoryBytes } from "../runtime/free-memory.js";
import type { RunEstimate } from "../runtime/memory-estimate.js";
import type { TrainConfig, TrainOverrides } from "./config.js";
import { resumeTrainConfig } from "./config.js";
import { estimateRun } from "./estimate.js";
import type { TrainHooks, TrainResult } from "./events.js";
import { LossScaler } from "./loss-scaler.js";
import { LossAverages } from "./metrics-averages.js";
import { MetricsLog } from "./metrics-log.js";
import { type PreparedRun, prepareRun } from "./prepare.js";
import { metricsPath } from "./run-files.js";
import {
  type RunProgress,
  restoreRunState,
  runIdentities,
  savedRunLength,
  settledChoices,
} from "./run-state.js";
import { type RunContext, runSteps } from "./run-steps.js";
import { readTrainState } from "./state.js";
import { withTensorBoard } from "./tensorboard-log.js";

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
    lossScaler: run.computeType === "float16" ? new LossScaler() : null,
    validationDue: false,
    samplesDue: config.sampleAtFirst,
    startedAt: new Date(),
    sessionId: randomInt(RANDOM_LIMIT),
  };
  const log = await MetricsLog.create(metricsPath(config.outputDir), progress.sessionId);
  return runLogged(
    { run, progress, identities, log, resumedFromStep: null, memory: estimate(run, hooks) },
    hooks,
  );
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
  const { totalSteps } = savedRunLength(state, config);
  if (state.step > totalSteps) throw beyondTheEnd(stateDir, state.step, totalSteps);
  hooks.onEvent({ type: "resuming", stateDir, fromStep: state.step, totalSteps });
  await makeOutputDir(config.outputDir);
  const run = await prepareRun(config, config.seed!, hooks, settledChoices(state));
  const identities = await runIdentities(run);
  const progress = restoreRunState(run, state, identities);
  const log = await MetricsLog.resume(metricsPath(config.outputDir), progress.step, progress.sessionId);
  return runLogged(
    { run, progress, identities, log, resumedFromStep: state.step, memory: estimate(run, hooks) },
    hooks,
  );
}

function beyondTheEnd(stateDir: string, step: number, totalSteps: number): DyloraError {
  return new DyloraError(
    "E_CONFIG",
    `resume: ${stateDir} is at step ${step}, behind the last one, ${totalSteps}`,
    {
      note: `The state was left as it is. --max_train_steps is the total: give ${step} to have the LoRA file of this state written, or more to train on.`,
    },
  );
}

/** @returns the run's expected memory, after a warning if that is more than there is */
function estimate(run: PreparedRun, hooks: TrainHooks): RunEstimate {
  const memory = estimateRun(run);
  const neededBytes = memory.totalBytes - memory.sharedBytes;
  const freeBytes = freeMemoryBytes();
  const { needed, kept } = memory.sessions;
  const warn = (message: string) =>
    hooks.onEvent({
      type: "warning",
      message: `${message}: --execution_mode lean and --gradient_checkpointing need less`,
    });
  if (run.device !== "cpu") return memory;
  if (neededBytes > freeBytes) {
    const gigabytes = (bytes: number) => (bytes / 1e9).toFixed(1);
    warn(`the run needs about ${gigabytes(neededBytes)} GB and ${gigabytes(freeBytes)} GB are free`);
  } else if (kept < needed) {
    warn(
      `only ${kept} of ${needed} sessions (one for each size, to train and to validate) fit into memory side by side, ` +
        "and the others are made anew when their turn comes",
    );
  }
  return memory;
}

async function runLogged(context: RunContext, hooks: TrainHooks): Promise<TrainResult> {
  const logged = withTensorBoard(hooks, context.run.config, context.progress.step);
  try {
    return await runSteps(context, logged.hooks);
  } finally {
    logged.close();
  }
}

async function makeOutputDir(dir: string): Promise<void> {
  await mkdir(dir, { recursive: true }).catch((cause: unknown) => {
    throw writeError(dir, cause, { note: "Nothing was started. Choose another --output_dir." });
  });
}
