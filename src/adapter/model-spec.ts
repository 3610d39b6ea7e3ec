/** `modelspec.*` metadata: Stability AI's Model Metadata Standard, version 1.0.1, as sd-scripts fills it for a LoRA. */
import type { BaseModel } from "./base-model.js";

export interface ModelSpecInput {
  readonly baseModel: BaseModel;
  readonly isVPrediction: boolean;
  /** Width and height in pixels. */
  readonly resolution: readonly [number, number];
  readonly title: string;
  /** When the file is written. */
  readonly date: Date;
  /** What wrote it, with its version: `dylora/0.1.0`. */
  readonly implementationVersion: string;
  /** `--clip_skip`, if given. */
  readonly clipSkip?: number | null;
  /** `--min_timestep` and `--max_timestep`, if given. */
  readonly timestepRange?: readonly [number, number] | null;
  /** `--metadata_author` and so on, under the key without `modelspec.`: author, description, license, tags, … */
  readonly texts?: Readonly<Record<string, string>>;
}

/** The standard's identifiers. SD 2.x is told apart by its prediction type, as in sd-scripts. */
function architectureOf({ baseModel, isVPrediction }: ModelSpecInput): string {
  switch (baseModel) {
    case "sd1":
      return "stable-diffusion-v1/lora";
    case "sd2":
      return isVPrediction ? "stable-diffusion-v2-768-v/lora" : "stable-diffusion-v2-512/lora";
    case "sdxl":
      return "stable-diffusion-xl-v1-base/lora";
  }
}

export function buildModelSpec(input: ModelSpecInput): Record<string, string> {
  const { baseModel, isVPrediction, resolution, clipSkip, timestepRange } = input;
  const values: Record<string, string> = {
    sai_model_spec: "1.0.1",
    architecture: architectureOf(input),
    // Where the names of the tensors come from.
    implementation: baseModel === "sdxl" ? "https://github.com/Stability-AI/generative-models" : "diffusers",
    title: input.title,
    resolution: `${resolution[0]}x${resolution[1]}`,
    date: localIsoDate(input.date),
    prediction_type: isVPrediction ? "v" : "epsilon",
    implementation_version: input.implementationVersion,
  };
  if (timestepRange != null) values.timestep_range = timestepRange.join(",");
  if (clipSkip != null) values.encoder_layer = String(clipSkip);
  return Object.fromEntries(
    Object.entries({ ...values, ...input.texts }).map(([key, value]) => [`modelspec.${key}`, value]),
  );
}

/** `2026-02-28T17:05:09`: local time without an offset, to the second. */
export function localIsoDate(date: Date): string {
  const pad = (value: number, digits = 2) => String(value).padStart(digits, "0");
  const day = [pad(date.getFullYear(), 4), pad(date.getMonth() + 1), pad(date.getDate())].join("-");
  const time = [pad(date.getHours()), pad(date.getMinutes()), pad(date.getSeconds())].join(":");
  return `${day}T${time}`;
}
