/** The parameters of a picture as stable-diffusion-webui (A1111) writes them, which every viewer of such pictures reads. */

import { basename } from "node:path";
import { dyloraVersion } from "../version.js";
import { SAMPLER_LABELS } from "./sampler-names.js";
import type { GeneratedImage } from "./types.js";

export interface ModelLabel {
  /** File name of the checkpoint without extension. */
  readonly name: string;
  /** SHA-256 of the file, or its first digits; null where there is none. */
  readonly sha256: string | null;
}

/** A checkpoint's name as {@link ModelLabel} has it. */
export function modelName(path: string): string {
  return basename(path).replace(/\.safetensors$/i, "");
}

const MODEL_HASH_DIGITS = 10;
const LORA_HASH_DIGITS = 12;

/**
 * Prompt, negative prompt and settings as three paragraphs:
 *
 *     a cat
 *     Negative prompt: blurry
 *     Steps: 30, Sampler: DDIM, CFG scale: 7.5, Seed: 42, Size: 512x512, Model: sd15, Lora hashes: "cat: 0123456789ab"
 *
 * Ranks and multipliers of adapters have fields of their own, in the form of the hashes.
 */
export function parametersText(
  { request, clipSkip }: Pick<GeneratedImage, "request" | "clipSkip">,
  model: ModelLabel,
): string {
  const { prompt, negativePrompt } = request;
  const adapters = request.adapters.filter(({ rank, multiplier }) => rank !== 0 && multiplier !== 0);
  const fields: [string, string | number | null][] = [
    ["Steps", request.steps],
    ["Sampler", SAMPLER_LABELS[request.sampler]],
    ["Schedule type", request.spacing === "karras" ? "Karras" : "Uniform"],
    ["CFG scale", request.scale],
    ["Seed", request.seed],
    ["Size", `${request.width}x${request.height}`],
    ["Model hash", model.sha256?.slice(0, MODEL_HASH_DIGITS) ?? null],
    ["Model", model.name],
    ["Clip skip", clipSkip === 1 ? null : clipSkip],
    [
      "Lora hashes",
      listOf(adapters, ({ adapter }) => adapter.metadata.sshs_model_hash?.slice(0, LORA_HASH_DIGITS)),
    ],
    ["Lora ranks", listOf(adapters, ({ rank }) => rank)],
    ["Lora multipliers", listOf(adapters, ({ multiplier = 1 }) => multiplier)],
    ["Version", `dylora ${dyloraVersion()}`],
  ];
  const settings = fields.flatMap(([name, value]) => (value === null ? [] : [`${name}: ${quoted(value)}`]));
  const negative = negativePrompt === "" ? [] : [`Negative prompt: ${negativePrompt}`];
  return [prompt, ...negative, settings.join(", ")].join("\n");
}

type Applied = GeneratedImage["request"]["adapters"][number];

/** `name: value, name: value`; null where no adapter has the value. */
function listOf(
  adapters: readonly Applied[],
  value: (applied: Applied) => string | number | undefined,
): string | null {
  const entries = adapters.flatMap((applied) => {
    const found = value(applied);
    return found === undefined ? [] : [`${applied.adapter.name}: ${found}`];
  });
  return entries.length === 0 ? null : entries.join(", ");
}

/** Values that hold a separator are JSON strings. */
function quoted(value: string | number): string {
  const text = String(value);
  return /[,:\n]/.test(text) ? JSON.stringify(text) : text;
}
