/** What a run that failed in the middle tells: what is left of it, and how to go on. */

import { learningRatesOf, type TrainConfig } from "./config.js";

export function goOnNote(step: number, stateDir: string): string {
  return `The state of step ${step} is saved: go on with dylora resume ${stateDir}`;
}

/** @param step - the step that the run went back to */
export function divergedNote(config: TrainConfig, step: number, stateDir: string): string {
  return (
    `The run was taken back to step ${step}, the newest that is known to work, and its state saved: ` +
    `go on with a lower rate, dylora resume ${stateDir} ${lowerRates(config)}`
  );
}

/** @param resumedFromStep - null for a new run */
export function nothingLearnedNote(resumedFromStep: number | null): string {
  return resumedFromStep === null
    ? "Nothing was learned that could be saved."
    : `The state of step ${resumedFromStep}, which the run went on from, is as it was.`;
}

/** The options that decide the rates of what is trained, with a tenth of their values. */
function lowerRates(config: TrainConfig): string {
  const trained = learningRatesOf(config);
  const own = [
    ["unet_lr", trained.unet, config.unetLr],
    ["text_encoder_lr", trained.textEncoder, config.textEncoderLr],
  ] as const;
  const rates = new Map<string, number>();
  for (const [name, rate, given] of own) {
    if (rate !== null) rates.set(given === null ? "learning_rate" : name, rate);
  }
  return [...rates].map(([name, rate]) => `--${name} ${Number((rate / 10).toPrecision(3))}`).join(" ");
}
