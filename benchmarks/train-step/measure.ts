/**
 * Times the steps of one configuration and sends what it finds to the process that started it (`measurement.ts`).
 *
 * The path is a training run's own from the checkpoint to the updated factors; only images and captions are random numbers.
 */

import { Denoiser, type TrainBatch } from "../../src/denoiser/denoiser.js";
import { diffuse } from "../../src/denoiser/noising.js";
import { createRankPlan } from "../../src/dylora/index.js";
import { DyloraError } from "../../src/errors.js";
import { type Checkpoint, openCheckpoint } from "../../src/models/checkpoint/index.js";
import { vaeDownsampleFactor } from "../../src/models/config.js";
import { loraTargets } from "../../src/models/lora-targets.js";
import { createNoiseSchedule } from "../../src/models/noise-schedule.js";
import { SD_VAE } from "../../src/models/reference-configs.js";
import { randomStream } from "../../src/random/stream.js";
import { LossScaler } from "../../src/training/loss-scaler.js";
import { freshNetwork } from "../../src/training/network.js";
import { createOptimizer } from "../../src/training/optimizer/index.js";
import {
  createParameterStore,
  HostParameters,
  type ParameterStore,
} from "../../src/training/parameters/index.js";
import { Stepper } from "../../src/training/step.js";
import { createTrainedModules } from "../../src/training/trained-module.js";
import { fullSizeCheckpoint } from "../full-size-checkpoint.js";
import { resetPeak, residentMemory } from "../process-memory.js";
import { median } from "../setting.js";
import type { StepConfiguration } from "./configuration.js";
import type { Measurement, StepFigures } from "./measurement.js";
import { OperatorProfile } from "./operator-profile.js";

const SEED = 1;
/** Tokens of a prompt. */
const TOKENS = 77;

/** Knows how long the model itself took. */
class TimedDenoiser extends Denoiser {
  modelSeconds = 0;

  override async gradients(...parameters: Parameters<Denoiser["gradients"]>) {
    const began = secondsSinceStart();
    const result = await super.gradients(...parameters);
    this.modelSeconds = secondsSinceStart() - began;
    return result;
  }
}

/** The same where the factors live on the device: the seconds of the last micro-step. */
function timeModel(parameters: ParameterStore): () => number {
  let seconds = 0;
  const accumulate = parameters.accumulate.bind(parameters);
  parameters.accumulate = async (batch, draws) => {
    const began = secondsSinceStart();
    const loss = await accumulate(batch, draws);
    seconds = secondsSinceStart() - began;
    return loss;
  };
  return () => seconds;
}

async function measure(configuration: StepConfiguration): Promise<Measurement> {
  const { model, dtype, rank, unit, alpha, updateMode, trainsTextEncoder } = configuration;
  const { device, mode, threads, gradientCheckpointing, mixedPrecision, steps, batch } = configuration;
  const profile = configuration.profile ? OperatorProfile.begin() : null;

  const checkpoint = await openCheckpoint(await fullSizeCheckpoint(model, dtype));
  const targets = loraTargets(
    { unet: checkpoint.unet.config, textEncoder: checkpoint.textEncoder.config },
    { unetOnly: !trainsTextEncoder },
  );
  const sizes = { rank, alpha, convRank: null, convAlpha: null };
  const optimizer = createOptimizer("AdamW");
  const modules = createTrainedModules(freshNetwork(targets, sizes, SEED), optimizer);
  const half = mixedPrecision === "fp16";
  const denoiser = new TimedDenoiser({
    checkpoint,
    targets,
    device,
    mode,
    threads,
    gradientCheckpointing,
    computeType: half ? "float16" : "float32",
  });
  const plan = createRankPlan({ maxRank: rank, unit, updateMode });
  const parameters = createParameterStore({ denoiser, modules, optimizer, plan });
  const modelSecondsOnDevice = parameters instanceof HostParameters ? null : timeModel(parameters);
  const stepper = new Stepper({
    parameters,
    modules,
    plan,
    seed: SEED,
    maxGradNorm: 1,
    lossScaler: half ? new LossScaler() : null,
  });
  const side = configuration.resolution / vaeDownsampleFactor(SD_VAE);

  const preparedAt = secondsSinceStart();
  const cpuBefore = process.cpuUsage();
  await parameters.prepare({ count: batch, height: side, width: side }, TOKENS);
  const createSeconds = secondsSinceStart() - preparedAt;
  const createCpuSeconds = cpuSecondsSince(cpuBefore);
  const created = residentMemory();
  process.send?.({ type: "created", createSeconds });
  resetPeak();

  const figures: StepFigures[] = [];
  for (let step = 0; step < steps; step++) {
    const cpu = process.cpuUsage();
    const began = secondsSinceStart();
    const { loss, draws } = await stepper.step(step, batches(checkpoint, configuration, step), {
      unet: 1e-4,
      text_encoder: 5e-5,
    });
    const ended = secondsSinceStart();
    const cpuSeconds = cpuSecondsSince(cpu);
    const { rank: drawn } = draws[0]!;
    const seconds = ended - began;
    const modelSeconds = modelSecondsOnDevice?.() ?? denoiser.modelSeconds;
    const figure = {
      step,
      rank: drawn,
      loss,
      seconds,
      modelSeconds,
      cpuSeconds,
      ended,
    };
    figures.push(figure);
    process.send?.({ type: "step", figure });
  }
  const trained = residentMemory();
  await parameters.release();
  await denoiser.release();

  const warm = figures.slice(1);
  return {
    createSeconds,
    createCpuSeconds,
    firstStepSeconds: figures[0]!.seconds,
    startToFirstStepSeconds: figures[0]!.ended,
    medianSeconds: median(warm.map(({ seconds }) => seconds)),
    medianCpuSeconds: median(warm.map(({ cpuSeconds }) => cpuSeconds)),
    medianOutsideModelSeconds: median(warm.map(({ seconds, modelSeconds }) => seconds - modelSeconds)),
    peakBytes: Math.max(created.peakBytes, trained.peakBytes),
    createPeakBytes: created.peakBytes,
    createdBytes: created.residentBytes,
    stepPeakBytes: trained.peakBytes,
    mappedFileBytes: trained.mappedFileBytes,
    modules: modules.length,
    steps: figures,
    operators: (await profile?.end()) ?? null,
  };
}

/** The one batch of a step: noisy latents of nothing, under a prompt of nothing. */
async function* batches(
  checkpoint: Checkpoint,
  { batch, resolution, trainsTextEncoder }: StepConfiguration,
  step: number,
): AsyncGenerator<TrainBatch, void, void> {
  const random = randomStream(SEED, "batch", step);
  const side = resolution / vaeDownsampleFactor(SD_VAE);
  const { inChannels, crossAttentionDim } = checkpoint.unet.config;
  const normals = (count: number) => random.fillNormal(new Float32Array(count));
  const latents = () => Array.from({ length: batch }, () => normals(inChannels * side * side));
  const timesteps = Array.from({ length: batch }, () => random.int(1000));
  const { vocabSize } = checkpoint.textEncoder.config;
  const tokens = () => Array.from({ length: TOKENS }, () => random.int(vocabSize));
  yield {
    count: batch,
    height: side,
    width: side,
    timesteps,
    ...diffuse(createNoiseSchedule(), checkpoint.predictionType, latents(), latents(), timesteps),
    text: trainsTextEncoder
      ? { tokens: Array.from({ length: batch }, tokens) }
      : { context: normals(batch * TOKENS * crossAttentionDim), tokensPerPrompt: TOKENS },
    lossWeight: new Float32Array(batch).fill(1 / batch),
  };
}

/** Of all threads, since an earlier `process.cpuUsage()`. */
function cpuSecondsSince(earlier: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(earlier);
  return (user + system) / 1e6;
}

/** Since the process began, its own loading included. */
function secondsSinceStart(): number {
  return performance.now() / 1000;
}

try {
  const measurement = await measure(JSON.parse(process.argv[2]!) as StepConfiguration);
  process.send?.({ type: "measurement", measurement });
} catch (error) {
  const code = error instanceof DyloraError ? error.code : "E_INTERNAL";
  process.send?.({ type: "failure", failure: { code, message: (error as Error).message } });
}
process.disconnect?.();
