/** Measures on data what the ranks of each module of an adapter are worth. */
import { type Adapter, readFactors } from "../adapter/index.js";
import {
  checkResolution,
  dropUnreadable,
  MemoryTensorCache,
  probeImages,
  scanEvaluationDir,
} from "../data/index.js";
import { Conditioning, requireVae, resolutionMultiple } from "../denoiser/conditioning.js";
import { Denoiser } from "../denoiser/denoiser.js";
import { DyloraError } from "../errors.js";
import { checkAdapterFitsBase } from "../models/base-match.js";
import { openCheckpoint } from "../models/checkpoint/index.js";
import { createNoiseSchedule } from "../models/noise-schedule.js";
import { randomStream } from "../random/stream.js";
import type { DeviceName } from "../runtime/device.js";
import { chooseExecutionMode } from "../runtime/execution-mode.js";
import { resolveDevice } from "../runtime/resolve-device.js";
import { adapterTargets } from "../sampling/loaded-adapter.js";
import { trainedWith } from "../sampling/trained-with.js";
import type { RankCandidates, RankWorth } from "../surgery/index.js";
import type { CalibrationOptions } from "./calibration-options.js";
import { HeldOut } from "./held-out.js";
import { atReference, RankSensitivity, type SensitivityModule } from "./rank-sensitivity.js";
import { BAND_COUNT } from "./timestep-bands.js";

export interface CalibrationHooks {
  readonly onProgress: (progress: { task: string; done: number; total: number }) => void;
  readonly signal: AbortSignal;
}

export interface CalibrationReport {
  /** For `planBudgetExtract`. */
  readonly worth: RankWorth;
  readonly imageCount: number;
  readonly sampleCount: number;
  readonly width: number;
  readonly height: number;
  readonly device: DeviceName;
  /** Mean loss at the reference ranks. */
  readonly meanLoss: number;
  readonly warnings: readonly string[];
}

/** What was trained at when the file does not say. */
const DEFAULT_RESOLUTION = { width: 512, height: 512 };

/**
 * Draws samples as `bench` does, computes the gradients of each one's loss with the adapter at reference ranks, and predicts from
 * them what every rank of every module saves; see {@link RankSensitivity}. One sample takes as long as a training step at
 * full rank.
 *
 * @param candidates - of every module, and `reference` one of its ranks: what `planBudgetExtract` gives to `measureWorth`
 * @throws {DyloraError} `E_INCOMPATIBLE` for a checkpoint that the adapter does not fit, `E_DATA`, `E_DEVICE`, `E_DIVERGED`, …
 */
export async function calibrate(
  adapter: Adapter,
  candidates: readonly RankCandidates[],
  reference: readonly number[],
  options: CalibrationOptions,
  { signal, onProgress }: CalibrationHooks,
): Promise<CalibrationReport> {
  const checkpoint = await openCheckpoint(options.pretrainedModelNameOrPath, {
    ...(options.v2 && { v2: true }),
    ...(options.vParameterization && { vParameterization: true }),
    ...(options.vae !== null && { vaePath: options.vae }),
  });
  const modules = await readModules(adapter, candidates, reference, adapterTargets(checkpoint));
  const targets = modules.map(({ factors }) => factors.target);
  const trained = trainedWith(checkpoint, [adapter.metadata]);
  const resolution = checkResolution(
    options.resolution ?? trained.resolution ?? DEFAULT_RESOLUTION,
    resolutionMultiple(checkpoint),
  );
  const data = await calibrationData(options, signal);
  const draws = Math.ceil(options.samples / BAND_COUNT) * BAND_COUNT;
  const total = data.items.length * draws;
  const { device } = await resolveDevice(options.device, signal);
  const mode = chooseExecutionMode(options.executionMode, device, { steps: total, weights: checkpoint });
  const threads = options.threads ?? undefined;
  const clipSkip = options.clipSkip ?? trained.clipSkip ?? 1;
  const { gradientCheckpointing } = options;
  const denoiser = new Denoiser({
    checkpoint,
    targets,
    device,
    mode,
    threads,
    clipSkip,
    gradientCheckpointing,
  });
  const conditioning = await Conditioning.open({
    checkpoint,
    device,
    mode,
    threads,
    clipSkip,
    textInGraph: denoiser.includesTextEncoder,
    ...resolution,
    latentCache: new MemoryTensorCache(),
    textCache: new MemoryTensorCache(),
  });
  try {
    await conditioning.latents.fill(data.items, {
      signal,
      onProgress: (done, count) => onProgress({ task: "encoding images", done, total: count }),
    });
    await conditioning.releaseEncoder();
    const heldOut = new HeldOut({
      items: data.items,
      draws,
      seed: options.seed,
      batchSize: 1,
      conditioning,
      schedule: createNoiseSchedule({ zeroTerminalSnr: trained.zeroTerminalSnr }),
      predictionType: trained.predictionType,
      scalingFactor: requireVae(checkpoint).config.scalingFactor,
    });
    const sensitivity = new RankSensitivity(modules);
    const active = modules.map(atReference);
    let lossSum = 0;
    for (const [done, sample] of heldOut.samples.entries()) {
      signal.throwIfAborted();
      onProgress({ task: "calibrating", done, total });
      const batch = await heldOut.batchOf([sample]);
      const { loss, gradients } = await denoiser.gradients(
        { ...batch, lossWeight: Float32Array.of(1) },
        active,
      );
      if (!Number.isFinite(loss[0]!)) throw diverged(adapter.path, sample);
      sensitivity.add(loss[0]!, batch.target.length, gradients);
      lossSum += loss[0]!;
    }
    return {
      worth: { benefit: "calibration", values: sensitivity.saved() },
      imageCount: data.items.length,
      sampleCount: total,
      ...resolution,
      device,
      meanLoss: lossSum / total,
      warnings: [...data.warnings, ...trained.warnings],
    };
  } finally {
    await conditioning.release();
    await denoiser.release();
  }
}

/** In the order of the candidates, which is that of the file. */
async function readModules(
  adapter: Adapter,
  candidates: readonly RankCandidates[],
  reference: readonly number[],
  targets: ReturnType<typeof adapterTargets>,
): Promise<SensitivityModule[]> {
  const { matched } = checkAdapterFitsBase(
    targets,
    candidates.map(({ module }) => module),
  );
  const modules: SensitivityModule[] = [];
  for (const [index, { module, target }] of matched.entries()) {
    const { down, upT } = await readFactors(adapter.file, module);
    const { ranks, scales } = candidates[index]!;
    const factors = { target, maxRank: module.rank, alpha: module.alpha, down, up: upT };
    modules.push({ factors, ranks, scales, reference: reference[index]! });
  }
  return modules;
}

async function calibrationData(options: CalibrationOptions, signal: AbortSignal) {
  const { captionExtension, maxImages, seed } = options;
  const scanned = await scanEvaluationDir(options.data, { captionExtension, optionName: "--calibrate" });
  const { items } = scanned;
  const drawn = new Set(randomStream(seed, "calibration images").shuffle(items).slice(0, maxImages));
  const chosen = items.filter((item) => drawn.has(item));
  return dropUnreadable({ ...scanned, items: chosen }, await probeImages(chosen, { signal }));
}

function diverged(path: string, { image, timestep }: { image: string; timestep: number }): DyloraError {
  return new DyloraError(
    "E_DIVERGED",
    `calibrate ${path}: the loss on ${image} at timestep ${timestep} is not finite`,
    { note: "The adapter or the base model holds numbers that are not finite or too large to compute with." },
  );
}
