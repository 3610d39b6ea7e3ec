/** What a run tells about its start and its steps. */

import { bucketsOf } from "../data/index.js";
import { countParameters } from "../models/weight-shapes.js";
import { EXECUTION_PROVIDER } from "../runtime/device.js";
import type { RunEstimate } from "../runtime/memory-estimate.js";
import { learningRatesOf, type TrainConfig } from "./config.js";
import type { StartEvent, StepEvent } from "./events.js";
import type { MetricsRecord, MetricsValue } from "./metrics-log.js";
import { parameterCount } from "./network.js";
import type { LearningRates } from "./parameters/index.js";
import type { PreparedRun } from "./prepare.js";
import type { RunProgress } from "./run-state.js";
import type { StepResult } from "./step.js";

/** @param resumedFromStep - null for a new run */
export function startEvent(
  run: PreparedRun,
  resumedFromStep: number | null,
  memory: RunEstimate,
  residentStep: boolean,
): StartEvent {
  const { config, checkpoint, plan, sizes, network, device, data, batches } = run;
  const trainable = parameterCount(network);
  const base = [checkpoint.unet, checkpoint.textEncoder].reduce(
    (total, { weights }) => total + elements(weights),
    0,
  );
  const modulesOf = (component: string) =>
    network.filter(({ target }) => target.component === component).length;
  return {
    type: "start",
    device,
    provider: EXECUTION_PROVIDER[device],
    dtype: run.computeType,
    executionMode: run.executionMode,
    residentStep,
    baseModel: {
      path: checkpoint.path,
      version: checkpoint.baseModelVersion,
      predictionType: checkpoint.predictionType === "epsilon" ? "epsilon" : "v",
    },
    network: {
      module: config.networkModule,
      maxRank: plan.maxRank,
      unit: plan.unit,
      alpha: sizes.alpha,
      updateMode: plan.updateMode,
      ranks: plan.ranks,
      unetModules: modulesOf("unet"),
      textEncoderModules: modulesOf("text_encoder"),
      trainableParameters: trainable,
      trainablePercent: (100 * trainable) / base,
    },
    data: {
      imageCount: data.train.items.length,
      samplesPerEpoch: batches.sampler.plan.samplesPerEpoch,
      validationImageCount: data.validation.items.length,
      ...config.resolution,
      buckets: bucketsOf(data.train.items),
    },
    batchSize: config.trainBatchSize,
    gradientAccumulationSteps: config.gradientAccumulationSteps,
    totalSteps: run.totalSteps,
    totalEpochs: run.totalEpochs,
    seed: run.seed,
    estimatedPeakBytes: memory.totalBytes,
    sharedWeightBytes: memory.sharedBytes,
    outputDir: config.outputDir,
    report: config.report,
    resumedFromStep,
  };
}

/** What is written down about a start. */
export interface StartFacts extends Omit<StartEvent, "type" | "report"> {
  /** ISO 8601. */
  readonly startedAt: string;
  readonly config: TrainConfig;
}

/** The line of a start, or of a resumption, in `metrics.jsonl`: whoever reads the log later knows what was run. */
export function startRecord(
  { type: _type, report: _report, ...facts }: StartEvent,
  step: number,
  config: TrainConfig,
): MetricsRecord {
  const started: StartFacts = { ...facts, startedAt: new Date().toISOString(), config };
  return { step, started: started as unknown as MetricsValue };
}

function elements(weights: ReadonlyMap<string, { shape: readonly number[] }>): number {
  return countParameters(new Map([...weights].map(([name, { shape }]) => [name, shape])));
}

/** What the log and the event of a step have in common. */
type StepFacts = Pick<
  StepEvent,
  "step" | "epoch" | "loss" | "lossEma" | "learningRates" | "gradNorm" | "lossScaling" | "rssBytes"
>;

/** @param progress - after the step */
export function stepFacts(
  { batches, config }: Pick<PreparedRun, "batches" | "config">,
  { step, averages, lossScaler }: Pick<RunProgress, "step" | "averages" | "lossScaler">,
  { loss, gradNorm, lossScale, skipped }: StepResult,
  rates: LearningRates,
): StepFacts {
  const trained = learningRatesOf(config);
  const lastBatch = step * config.gradientAccumulationSteps - 1;
  return {
    step,
    epoch: batches.sampler.plan.epochOf(lastBatch) + 1,
    loss,
    lossEma: averages.overall.value!,
    learningRates: {
      ...(trained.unet !== null && { unet: rates.unet }),
      ...(trained.textEncoder !== null && { textEncoder: rates.text_encoder }),
    },
    gradNorm,
    ...(lossScaler !== null &&
      lossScale !== null && {
        lossScaling: { scale: lossScale, skipped, skippedSteps: lossScaler.state.skippedSteps },
      }),
    rssBytes: process.memoryUsage.rss(),
  };
}

/** The line of a step in `metrics.jsonl`. */
export function stepRecord(facts: StepFacts, { draws }: StepResult, secondsPerStep: number): MetricsRecord {
  const { step, epoch, loss, lossEma, learningRates, gradNorm, lossScaling, rssBytes } = facts;
  return {
    step,
    epoch,
    loss,
    lossEma,
    draws: Object.fromEntries(draws.map((draw, index) => [index, { ...draw }])),
    learningRates: { ...learningRates },
    gradNorm,
    ...(lossScaling !== undefined && { lossScaling: { ...lossScaling } }),
    secondsPerStep,
    rssBytes,
  };
}

export function stepEvent(
  facts: StepFacts,
  { draws }: StepResult,
  totalSteps: number,
  time: Pick<StepEvent, "secondsPerStep" | "etaSeconds">,
): StepEvent {
  const ranks = [...new Set(draws.map(({ rank }) => rank))].sort((a, b) => a - b);
  return { type: "step", ...facts, totalSteps, ranks, ...time };
}
