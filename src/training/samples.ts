/** Pictures that are drawn in the course of a run: `--sample_prompts` and when. */

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { checkResolution } from "../data/index.js";
import { resolutionMultiple } from "../denoiser/conditioning.js";
import { moduleRank, type RankPlan } from "../dylora/index.js";
import { DyloraError } from "../errors.js";
import { writeError, writeFileAtomic } from "../io/index.js";
import type { Checkpoint } from "../models/checkpoint/types.js";
import {
  encodePng,
  generateImages,
  type ImageRequest,
  liveAdapter,
  modelName,
  parametersText,
  readPromptFile,
} from "../sampling/index.js";
import type { TrainConfig } from "./config.js";
import type { SampleEvent } from "./events.js";
import type { PreparedRun } from "./prepare.js";
import { type SamplePoint, samplePath } from "./run-files.js";

/** A picture that every drawing repeats. */
export interface PlannedSample {
  /** Place of the prompt in its file, from 0. */
  readonly prompt: number;
  /** Of the network; 0: the base model. */
  readonly rank: number;
  readonly image: ImageRequest;
}

/**
 * The pictures of one drawing: every prompt at every rank.
 *
 * A prompt without `--d` takes the run's seed plus its place, and so the same noise each time: what changes from one drawing
 * to the next is what was trained in between.
 *
 * @returns null where no samples are asked for
 * @throws {DyloraError} as `readPromptFile`; `E_RANK` for ranks that are not trained, `E_USAGE` for sizes that cannot be
 */
export async function planSamples(
  config: TrainConfig,
  seed: number,
  checkpoint: Checkpoint,
  plan: RankPlan,
): Promise<readonly PlannedSample[] | null> {
  const { samplePrompts, sampleSampler, resolution } = config;
  if (samplePrompts === null || !drawsSamples(config)) return null;
  const prompts = await readPromptFile(samplePrompts);
  const ranks = config.sampleRanks ?? [plan.maxRank];
  const untrained = ranks.find((rank) => rank !== 0 && !plan.ranks.includes(rank));
  if (untrained !== undefined) {
    throw new DyloraError("E_RANK", `train: --sample_ranks ${untrained} is not a rank that is trained`, {
      note: `Trained are ${plan.ranks.join(", ")}; 0 is the base model. Nothing was started.`,
    });
  }
  return prompts.flatMap((entry, prompt) => {
    const image = { ...resolution, sampler: sampleSampler, ...entry, seed: entry.seed ?? seed + prompt };
    checkResolution(image, resolutionMultiple(checkpoint));
    return ranks.map((rank) => ({ prompt, rank, image }));
  });
}

/** Whether there is any step after which pictures are drawn. */
export function drawsSamples(
  config: Pick<TrainConfig, "sampleEveryNSteps" | "sampleEveryNEpochs" | "sampleAtFirst">,
): boolean {
  return config.sampleEveryNSteps !== null || config.sampleEveryNEpochs !== null || config.sampleAtFirst;
}

/**
 * Whether pictures are drawn after a step, and what that point is called.
 *
 * @param epochsEnded - by this step
 */
export function samplePoint(
  { samples, config }: Pick<PreparedRun, "samples" | "config">,
  step: number,
  epochsEnded: readonly number[],
): SamplePoint | null {
  if (samples === null) return null;
  const { sampleEveryNSteps, sampleEveryNEpochs, sampleAtFirst } = config;
  if (step === 0) return sampleAtFirst ? { kind: "step", step } : null;
  if (sampleEveryNSteps !== null && step % sampleEveryNSteps === 0) return { kind: "step", step };
  if (sampleEveryNEpochs === null) return null;
  const epoch = epochsEnded.filter((ended) => ended % sampleEveryNEpochs === 0).at(-1);
  return epoch === undefined ? null : { kind: "epoch", epoch };
}

/**
 * Draws every picture with the factors as they are now, into `<output_dir>/sample`.
 *
 * Nothing that the training goes on with is touched: the pictures have random streams of their own, and sessions of their
 * own, which end with the drawing.
 *
 * @returns null where `signal` asked to stop before all were drawn
 */
export async function drawSamples(
  run: PreparedRun,
  step: number,
  point: SamplePoint,
  hooks: {
    readonly signal: AbortSignal;
    readonly onProgress: (done: number, total: number) => void;
    readonly onWarning: (message: string) => void;
  },
): Promise<SampleEvent[] | null> {
  const { config, checkpoint, network, plan, samples } = run;
  if (samples === null) return [];
  await makeFolder(join(config.outputDir, "sample"));
  const adapter = liveAdapter(config.outputName, network, plan.maxRank, (maxRank, rank) =>
    moduleRank(plan, maxRank, rank),
  );
  const drawnAt = new Date();
  const model = { name: modelName(checkpoint.path), sha256: null };
  const drawn = generateImages(
    {
      checkpoint,
      images: samples.map(({ rank, image }) => ({ ...image, adapters: [{ adapter, rank }] })),
      device: run.device,
      // Not chosen anew by the memory that is free: a run that goes on draws the same pictures.
      executionMode: run.executionMode,
      prepared: run.denoiser.prepared,
      clipSkip: config.clipSkip ?? 1,
      zeroTerminalSnr: config.zeroTerminalSnr,
      ...(config.threads === null ? {} : { threads: config.threads }),
    },
    {
      signal: hooks.signal,
      onWarning: hooks.onWarning,
      onProgress({ image, step }) {
        if (step === 0) hooks.onProgress(image, samples.length);
      },
    },
  );
  const events: SampleEvent[] = [];
  try {
    for await (const image of drawn) {
      const { prompt, rank } = samples[image.index]!;
      const { seed } = image.request;
      const path = samplePath(config.outputDir, config.outputName, point, {
        prompt,
        drawnAt,
        seed,
        rank: config.sampleRanks === null ? null : rank,
      });
      const png = await encodePng(image, parametersText(image, model));
      await writeFileAtomic(path, png, { overwrite: false });
      events.push({ type: "sample", step, path, prompt: image.request.prompt, seed, rank });
    }
  } catch (error) {
    if (hooks.signal.aborted && error === hooks.signal.reason) return null;
    throw error;
  }
  return events;
}

async function makeFolder(path: string): Promise<void> {
  await mkdir(path, { recursive: true }).catch((cause: unknown) => {
    throw writeError(path, cause);
  });
}
