/** `dylora generate`: pictures as PNG files. */

import { lstat, mkdir } from "node:fs/promises";
import { existsError, writeError, writeFileAtomic } from "../io/index.js";
import { openCheckpoint, sha256OfFile } from "../models/checkpoint/index.js";
import { type DeviceName, EXECUTION_PROVIDER } from "../runtime/device.js";
import { peakRssBytes } from "../runtime/peak-memory.js";
import { resolveDevice } from "../runtime/resolve-device.js";
import { completeImage, generateImages } from "./generate.js";
import type { GenerateOptions } from "./generate-options.js";
import { type LoadedAdapter, loadAdapter } from "./loaded-adapter.js";
import { type ModelLabel, modelName, parametersText } from "./parameters-text.js";
import { type PlannedPicture, planPictures, readPrompts } from "./picture-plan.js";
import { encodePng } from "./png.js";
import type { NoiseSpacing, SamplerName } from "./sampler-names.js";
import { trainedWith } from "./trained-with.js";
import type { GeneratedImage, GenerateProgress, GenerateRequest } from "./types.js";

/** What Stable Diffusion draws when neither the user nor an adapter says. */
const DEFAULT_SIZE = { width: 512, height: 512 };

/** One picture that was written. */
export interface PictureFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly prompt: string;
  readonly negativePrompt: string;
  readonly seed: number;
  readonly width: number;
  readonly height: number;
  readonly steps: number;
  readonly scale: number;
  readonly sampler: SamplerName;
  readonly scheduleType: NoiseSpacing;
  readonly adapters: readonly { readonly path: string; readonly rank: number; readonly multiplier: number }[];
  readonly seconds: number;
}

export interface GenerateReport {
  readonly device: DeviceName;
  readonly provider: string;
  readonly modelPath: string;
  readonly images: readonly PictureFile[];
  readonly warnings: readonly string[];
  readonly seconds: number;
  readonly peakRssBytes: number;
}

export interface GenerateFilesHooks {
  readonly signal: AbortSignal;
  readonly onProgress: (progress: GenerateProgress) => void;
  /** A picture lies complete under its name. */
  readonly onPicture: (picture: PictureFile) => void;
  readonly onWarning: (message: string) => void;
}

/**
 * Draws the pictures and writes each as soon as it is done.
 *
 * @throws {DyloraError} before anything is drawn: `E_USAGE`, `E_CONFIG`, `E_EXISTS` for a picture that is there without `force`,
 * `E_RANK`, `E_INCOMPATIBLE`, `E_DEVICE`; later `E_WRITE`, and as `generateImages`
 */
export async function generateFiles(
  options: GenerateOptions,
  hooks: GenerateFilesHooks,
): Promise<GenerateReport> {
  const startedAt = performance.now();
  const warnings: string[] = [];
  const warn = (message: string) => {
    warnings.push(message);
    hooks.onWarning(message);
  };
  const prompts = await readPrompts(options);
  const { pretrainedModelNameOrPath: modelPath } = options;
  const checkpoint = await openCheckpoint(modelPath, {
    ...(options.v2 && { v2: true }),
    ...(options.vParameterization && { vParameterization: true }),
    ...(options.vae !== null && { vaePath: options.vae }),
  });
  const adapters: LoadedAdapter[] = [];
  for (const { path } of options.adapters) adapters.push(await loadAdapter(path, checkpoint));
  const trained = trainedWith(
    checkpoint,
    adapters.map(({ metadata }) => metadata),
  );
  for (const warning of trained.warnings) warn(warning);
  const planned = planPictures(options, prompts, adapters, trained.resolution ?? DEFAULT_SIZE);
  for (const { image } of planned) completeImage(image, checkpoint);
  if (!options.force) await refuseExisting(planned);
  await makeFolder(options.outputDir);

  const { device } = await resolveDevice(options.device, hooks.signal);
  const request: GenerateRequest = {
    checkpoint,
    images: planned.map(({ image }) => image),
    device,
    executionMode: options.executionMode,
    clipSkip: options.clipSkip ?? trained.clipSkip ?? 1,
    predictionType: trained.predictionType,
    zeroTerminalSnr: trained.zeroTerminalSnr,
    ...(options.threads === null ? {} : { threads: options.threads }),
  };
  const images: PictureFile[] = [];
  await withModelLabel(modelPath, hooks.signal, async (model) => {
    for await (const image of generateImages(request, { ...hooks, onWarning: warn })) {
      const { path } = planned[image.index]!;
      const png = await encodePng(image, parametersText(image, await model));
      await writeFileAtomic(path, png, { overwrite: options.force });
      images.push(pictureFile(path, png.length, image));
      hooks.onPicture(images.at(-1)!);
    }
  });
  return {
    device,
    provider: EXECUTION_PROVIDER[device],
    modelPath,
    images,
    warnings,
    seconds: (performance.now() - startedAt) / 1000,
    peakRssBytes: peakRssBytes(),
  };
}

/** A picture takes minutes: that its name is taken is said before. */
async function refuseExisting(planned: readonly PlannedPicture[]): Promise<void> {
  for (const { path } of planned) {
    const isThere = await lstat(path).then(
      () => true,
      () => false,
    );
    if (isThere) throw existsError(path);
  }
}

async function makeFolder(path: string): Promise<void> {
  await mkdir(path, { recursive: true }).catch((cause: unknown) => {
    throw writeError(path, cause);
  });
}

/** Hashes the checkpoint while the first picture is drawn; the reading ends with `work`, however that ends. */
async function withModelLabel(
  path: string,
  signal: AbortSignal,
  work: (model: Promise<ModelLabel>) => Promise<void>,
): Promise<void> {
  const end = new AbortController();
  const hash = sha256OfFile(path, { signal: AbortSignal.any([signal, end.signal]) });
  const model = hash.then((sha256) => ({ name: modelName(path), sha256 }));
  // It is waited for when the first picture is done: until then a failure may not end the process.
  model.catch(() => undefined);
  try {
    await work(model);
  } finally {
    end.abort();
  }
}

function pictureFile(path: string, sizeBytes: number, { request, seconds }: GeneratedImage): PictureFile {
  const { spacing, adapters, ...image } = request;
  return {
    path,
    sizeBytes,
    ...image,
    scheduleType: spacing,
    adapters: adapters.map(({ adapter, rank, multiplier = 1 }) => ({
      path: adapter.path ?? adapter.name,
      rank,
      multiplier,
    })),
    seconds,
  };
}
