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

export function metricsPath(outputDir: string): string {
  return join(outputDir, "metrics.jsonl");
}
