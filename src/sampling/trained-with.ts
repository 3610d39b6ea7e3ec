/** What adapters were trained with, from their metadata: what pictures should be drawn with. */

import { readBaseModel } from "../adapter/index.js";
import type { Checkpoint } from "../models/checkpoint/types.js";
import type { PredictionType } from "../models/config.js";

export interface TrainedWith {
  readonly predictionType: PredictionType;
  readonly zeroTerminalSnr: boolean;
  /** Null where no file says. */
  readonly clipSkip: number | null;
  readonly resolution: { readonly width: number; readonly height: number } | null;
  /** Contradictions between the files, or between them and the checkpoint. */
  readonly warnings: readonly string[];
}

/** @param metadata - of every adapter; what the first one says that says anything counts */
export function trainedWith(
  checkpoint: Pick<Checkpoint, "predictionType" | "predictionTypeSource">,
  metadata: readonly Readonly<Record<string, string>>[],
): TrainedWith {
  const warnings: string[] = [];
  const zeroTerminalSnr = metadata.map((facts) => facts.ss_zero_terminal_snr === "True");
  if (new Set(zeroTerminalSnr).size > 1) {
    warnings.push("Only some of the files were trained with zero_terminal_snr; all are used with it.");
  }
  return {
    predictionType: predictionTypeOf(checkpoint, metadata, warnings),
    zeroTerminalSnr: zeroTerminalSnr.includes(true),
    clipSkip: firstOf(metadata, ({ ss_clip_skip }) => {
      const value = Number(ss_clip_skip);
      return Number.isSafeInteger(value) && value >= 1 ? value : null;
    }),
    resolution: firstOf(metadata, ({ ss_resolution = "" }) => {
      const match = /^\((\d+), (\d+)\)$/.exec(ss_resolution);
      return match === null ? null : { width: Number(match[1]), height: Number(match[2]) };
    }),
    warnings,
  };
}

/** Single files rarely say what their U-Net predicts; adapters that were trained on them do. */
function predictionTypeOf(
  { predictionType, predictionTypeSource }: Pick<Checkpoint, "predictionType" | "predictionTypeSource">,
  metadata: readonly Readonly<Record<string, string>>[],
  warnings: string[],
): PredictionType {
  const stated = firstOf(metadata, (facts) => readBaseModel(facts, []).predictionType);
  if (stated === null || stated === predictionType) return predictionType;
  if (predictionTypeSource === "default") {
    warnings.push(
      `The checkpoint does not say what it predicts; ${stated}, as the adapter was trained with, is taken.`,
    );
    return stated;
  }
  warnings.push(`The adapter was trained with ${stated}, the base model predicts ${predictionType}.`);
  return predictionType;
}

function firstOf<Fact>(
  metadata: readonly Readonly<Record<string, string>>[],
  read: (facts: Readonly<Record<string, string>>) => Fact | null,
): Fact | null {
  for (const facts of metadata) {
    const fact = read(facts);
    if (fact !== null) return fact;
  }
  return null;
}
