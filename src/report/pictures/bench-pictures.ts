/** The same pictures from every rank: same prompts, same noise. */

import type { BenchReport, MeasuredModels } from "../../evaluation/bench-types.js";
import { rankTitle } from "../../evaluation/rank-name.js";
import {
  generateImages,
  type ImageRequest,
  type PromptEntry,
  type SamplerName,
} from "../../sampling/index.js";
import { embedPixels } from "./embed-picture.js";
import type { EmbeddedPicture, PictureColumn, PictureGrid } from "./picture-grid.js";

/** Prompts that are taken from the captions when none are given. */
const CAPTIONS = 3;
/** Columns beside the base model; more ranks are thinned out, the recommended and the full one stay. */
const MOST_COLUMNS = 8;

export interface BenchPictureOptions {
  /** Null: the captions of the first held-out images. */
  readonly prompts: readonly PromptEntry[] | null;
  readonly steps: number;
  readonly scale: number;
  readonly sampler: SamplerName;
  readonly width: number;
  readonly height: number;
  readonly seed: number;
}

export interface BenchPictureHooks {
  readonly signal: AbortSignal;
  /** In steps of all pictures. */
  readonly onProgress?: (done: number, total: number) => void;
  readonly onWarning?: (message: string) => void;
}

interface Column extends PictureColumn {
  /** Null: the base model. */
  readonly file: number | null;
  readonly rank: number;
}

/** Draws every prompt with the base model and every rank. Errors as `generateImages`. */
export async function drawBenchPictures(
  { report, checkpoint, denoiser, adapters }: MeasuredModels,
  options: BenchPictureOptions,
  { signal, onProgress, onWarning }: BenchPictureHooks,
): Promise<PictureGrid> {
  const { settings } = report;
  const prompts = options.prompts ?? captionPrompts(report);
  const columns = pictureColumns(report);
  const images = prompts.flatMap((entry, row) =>
    columns.map(({ file, rank }): ImageRequest => {
      const { steps, scale, sampler, width, height } = options;
      const seed = options.seed + row;
      const multiplier = file === null ? 1 : report.files[file]!.recommendation.multiplier;
      return {
        ...{ steps, scale, sampler, width, height, seed },
        ...entry,
        adapters: file === null ? [] : [{ adapter: adapters[file]!, rank, multiplier }],
      };
    }),
  );
  const totalSteps = images.reduce((sum, { steps = options.steps }) => sum + steps, 0);
  const pictures: EmbeddedPicture[] = [];
  let doneSteps = 0;
  const drawn = generateImages(
    {
      checkpoint,
      images,
      device: settings.device,
      executionMode: settings.executionMode,
      ...(denoiser.threads !== undefined && { threads: denoiser.threads }),
      clipSkip: settings.clipSkip,
      predictionType: settings.predictionType,
      zeroTerminalSnr: settings.zeroTerminalSnr,
    },
    {
      signal,
      ...(onWarning && { onWarning }),
      onProgress: ({ step }) => onProgress?.(doneSteps + step, totalSteps),
    },
  );
  for await (const { pixels, width, height, request } of drawn) {
    pictures.push(await embedPixels(pixels, { width, height }));
    doneSteps += request.steps;
  }
  return {
    id: "pictures",
    caption: `${options.steps} steps of ${options.sampler}, guidance ${options.scale}, ${options.width}x${options.height} px, unless a prompt says otherwise. Every picture of a row starts from the same noise.`,
    axis: report.files.length > 1 ? "File and rank" : "Rank",
    walk: "Enlarge, and walk through the ranks",
    columns,
    rows: prompts.map((entry, row) => ({
      prompt: entry.prompt,
      details: `seed ${entry.seed ?? options.seed + row}${entry.negativePrompt ? `, without: ${entry.negativePrompt}` : ""}`,
      pictures: pictures.slice(row * columns.length, (row + 1) * columns.length),
    })),
  };
}

/** Different captions, in the order of the images. */
function captionPrompts({ images }: BenchReport): PromptEntry[] {
  const captions = [...new Set(images.map(({ caption }) => caption))];
  return captions.slice(0, CAPTIONS).map((prompt) => ({ prompt }));
}

function pictureColumns(report: BenchReport): Column[] {
  const several = report.files.length > 1;
  const all = report.files.flatMap((file, index) =>
    file.ranks.map(({ rank }): Column & { readonly kept: boolean } => {
      const recommended = rank === file.recommendation.rank;
      return {
        file: index,
        rank,
        title: several ? `${file.name}, ${rankTitle(file, rank)}` : rankTitle(file, rank),
        highlighted: recommended,
        kept: recommended || rank === file.maxRank,
      };
    }),
  );
  const kept = all.filter((column) => column.kept);
  const others = all.filter((column) => !column.kept);
  const room = Math.max(0, MOST_COLUMNS - kept.length);
  // Spread over all of them.
  const chosen = new Set(
    room >= others.length
      ? others
      : Array.from(
          { length: room },
          (_, index) => others[Math.floor(((index + 0.5) * others.length) / room)]!,
        ),
  );
  return [
    { file: null, rank: 0, title: "base model" },
    ...all.filter((column) => column.kept || chosen.has(column)),
  ];
}
