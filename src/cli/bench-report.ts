/** `bench --report`: the page, with pictures of every rank. */

import { stat } from "node:fs/promises";
import { resolve } from "node:path";
import type { MeasuredModels } from "../evaluation/bench-types.js";
import type { Resolution } from "../options/option-spec.js";
import type { PictureGrid } from "../report/pictures/picture-grid.js";
import type { PromptEntry } from "../sampling/index.js";
import type { CommandContext } from "./command.js";
import { formatBytes, formatDuration, formatPath } from "./format.js";
import { ProgressLine } from "./progress-line.js";

/** The guidance that people draw with. */
const GUIDANCE = 7.5;

export interface ReportPictures {
  /** Null: the captions of the images; empty: no pictures. */
  readonly prompts: readonly PromptEntry[] | null;
  readonly steps: number;
  /** Null: as the losses. */
  readonly resolution: Resolution | null;
}

/**
 * The prompts of the pictures, from `--report_prompts`.
 *
 * @throws {DyloraError} as `readPromptFile`
 */
export async function readReportPrompts(text: string | null): Promise<readonly PromptEntry[] | null> {
  if (text === null) return null;
  if (text === "none") return [];
  const path = resolve(text);
  const isFile = /\.(txt|toml|json)$/i.test(text) || (await stat(path).catch(() => null))?.isFile() === true;
  if (!isFile) return [{ prompt: text }];
  const { readPromptFile } = await import("../sampling/index.js");
  return readPromptFile(path);
}

/**
 * Draws the pictures and writes the page. A drawing that fails or is interrupted costs the pictures, not the page.
 *
 * @throws {DyloraError} `E_EXISTS`, `E_WRITE`; and what ended the drawing, once the page is written
 */
export async function writeBenchReport(
  path: string,
  measured: MeasuredModels,
  wanted: ReportPictures,
  context: CommandContext,
): Promise<void> {
  const { reportBench } = await import("../report/index.js");
  let pictures: PictureGrid | null = null;
  let failure: unknown = null;
  try {
    pictures = await drawPictures(measured, wanted, context);
  } catch (error) {
    failure = error;
  }
  await reportBench(path, measured.report, { pictures });
  if (!context.json) {
    const { size } = await stat(path);
    context.stdout.write(`report  ${formatPath(path)} (${formatBytes(size)})\n`);
  }
  if (failure !== null) throw failure;
}

async function drawPictures(
  measured: MeasuredModels,
  { prompts, steps, resolution }: ReportPictures,
  { signal, stderr, json }: CommandContext,
): Promise<PictureGrid | null> {
  if (prompts?.length === 0) return null;
  const { drawBenchPictures } = await import("../report/index.js");
  const { width, height, seed } = measured.report.settings;
  const line = new ProgressLine(stderr);
  const startedAt = performance.now();
  try {
    return await drawBenchPictures(
      measured,
      { prompts, steps, scale: GUIDANCE, sampler: "dpmsolver++", seed, ...(resolution ?? { width, height }) },
      {
        signal,
        onProgress: (done, total) => line.update(progressText(done, total, startedAt)),
        onWarning: (message) => {
          if (!json) line.print(`${stderr.style.yellow("warning")}: ${message}`);
        },
      },
    );
  } finally {
    line.clear();
  }
}

/** `pictures  120/400 steps  2m 05s left` */
function progressText(done: number, total: number, startedAt: number): string {
  const seconds = (performance.now() - startedAt) / 1000;
  const left = done === 0 ? "" : `  ${formatDuration((seconds / done) * (total - done))} left`;
  return `pictures  ${done}/${total} steps${left}`;
}
