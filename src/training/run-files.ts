/** Names of what a run writes: sd-scripts' (`NAME-step00000500.safetensors`, `NAME-000005-state`, …). */

import { join } from "node:path";

/** Why something is saved; decides its name. */
export type SavePoint =
  | { readonly kind: "step"; readonly step: number }
  | { readonly kind: "epoch"; readonly epoch: number }
  | { readonly kind: "last" };

const STEP_DIGITS = 8;
const EPOCH_DIGITS = 6;

function stem(outputName: string, point: SavePoint): string {
  switch (point.kind) {
    case "step":
      return `${outputName}-step${String(point.step).padStart(STEP_DIGITS, "0")}`;
    case "epoch":
      return `${outputName}-${String(point.epoch).padStart(EPOCH_DIGITS, "0")}`;
    case "last":
      return outputName;
  }
}

export function weightsPath(outputDir: string, outputName: string, point: SavePoint): string {
  return join(outputDir, `${stem(outputName, point)}.safetensors`);
}

export function statePath(outputDir: string, outputName: string, point: SavePoint): string {
  return join(outputDir, `${stem(outputName, point)}-state`);
}

/** After which step, or at the end of which epoch, pictures are drawn. */
export type SamplePoint = Exclude<SavePoint, { kind: "last" }>;

const SAMPLE_STEP_DIGITS = 6;

/**
 * A picture's file: `sample/NAME_000500_00_20261123014500_42.png`, as sd-scripts names it; `e000002` for an epoch, and the
 * rank at the end where ranks were asked for.
 *
 * @param sample - `prompt`: place of the prompt, from 0; `rank`: null for none
 */
export function samplePath(
  outputDir: string,
  outputName: string,
  point: SamplePoint,
  sample: { prompt: number; drawnAt: Date; seed: number; rank: number | null },
): string {
  const place =
    point.kind === "epoch"
      ? `e${String(point.epoch).padStart(EPOCH_DIGITS, "0")}`
      : String(point.step).padStart(SAMPLE_STEP_DIGITS, "0");
  const prompt = String(sample.prompt).padStart(2, "0");
  const rank = sample.rank === null ? [] : [`rank${sample.rank}`];
  const name = [outputName, place, prompt, timestamp(sample.drawnAt), sample.seed, ...rank].join("_");
  return join(outputDir, "sample", `${name}.png`);
}

/** `20261123014500`, in local time. */
function timestamp(date: Date): string {
  const parts = [date.getMonth() + 1, date.getDate(), date.getHours(), date.getMinutes(), date.getSeconds()];
  return [date.getFullYear(), ...parts.map((part) => String(part).padStart(2, "0"))].join("");
}

export function metricsPath(outputDir: string): string {
  return join(outputDir, "metrics.jsonl");
}
