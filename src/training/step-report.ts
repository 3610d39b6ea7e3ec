/** What a run tells about its start and its steps. */

import { countParameters } from "../models/weight-shapes.js";
import { EXECUTION_PROVIDER } from "../runtime/device.js";
import type { StartEvent } from "./events.js";
import { parameterCount } from "./network.js";
import type { PreparedRun } from "./prepare.js";

/** @param resumedFromStep - null for a new run */
export function startEvent(
  run: PreparedRun,
  resumedFromStep: number | null,
  estimatedPeakBytes: number,
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
    dtype: "float32",
    executionMode: run.mode,
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
      samplesPerEpoch: batches.sampler.epochLength,
      validationImageCount: data.validation.items.length,
      ...config.resolution,
    },
    batchSize: config.trainBatchSize,
    gradientAccumulationSteps: config.gradientAccumulationSteps,
    totalSteps: run.totalSteps,
    totalEpochs: run.totalEpochs,
    seed: run.seed,
    estimatedPeakBytes,
    outputDir: config.outputDir,
    resumedFromStep,
  };
}

function elements(weights: ReadonlyMap<string, { shape: readonly number[] }>): number {
  return countParameters(new Map([...weights].map(([name, { shape }]) => [name, shape])));
}
