/** Lines of a prompt file, in sd-scripts' syntax: `a cat --n blurry --w 512 --h 768 --d 42 --s 20 --l 7.5 --ss euler_a`. */

import { DyloraError } from "../errors.js";
import { nearestName } from "../options/nearest-name.js";
import { MOST_STEPS } from "./noise-levels.js";
import { SAMPLER_ALIASES, SAMPLER_NAMES, SAMPLERS_ELSEWHERE, type SamplerName } from "./sampler-names.js";

/** A prompt, and what it asks for itself. */
export interface PromptEntry {
  readonly prompt: string;
  readonly negativePrompt?: string;
  readonly width?: number;
  readonly height?: number;
  readonly seed?: number;
  readonly steps?: number;
  readonly scale?: number;
  readonly sampler?: SamplerName;
}

type Field = Exclude<keyof PromptEntry, "prompt">;

/** By flag, without dashes and in lower case. */
const FLAGS: Readonly<Record<string, Field>> = {
  n: "negativePrompt",
  w: "width",
  h: "height",
  d: "seed",
  s: "steps",
  l: "scale",
  ss: "sampler",
};

/** sd-scripts' other flags. */
const FLAGS_ELSEWHERE: Readonly<Record<string, string>> = {
  cn: "ControlNet is not built.",
  g: "It belongs to other models: use --l.",
  ctr: "It belongs to other models.",
  rcfg: "It belongs to other models.",
  fs: "It belongs to other models.",
};

/**
 * Reads one line.
 *
 * @param place - where it stands, for messages: `prompts.txt, line 3`
 * @throws {DyloraError} `E_CONFIG` for a flag that is unknown or given twice, or a value that does not fit
 */
export function parsePromptLine(line: string, place: string): PromptEntry {
  const [prompt = "", ...parts] = line.split(/\s--/);
  const entry: Record<string, unknown> = { prompt: prompt.trim() };
  for (const part of parts) {
    const [, flag = "", value = ""] = /^(\S*)\s*([\s\S]*)$/.exec(part) ?? [];
    const field = Object.hasOwn(FLAGS, flag.toLowerCase()) ? FLAGS[flag.toLowerCase()]! : null;
    if (field === null) throw unknownFlag(flag, place);
    if (Object.hasOwn(entry, field)) {
      throw new DyloraError("E_CONFIG", `${place}: --${flag} is given twice`, { note: NOTHING_DRAWN });
    }
    const text = value.trim();
    const number = /^(\d+\.?\d*|\.\d+)$/.test(text) ? Number(text) : Number.NaN;
    const isText = field === "negativePrompt" || field === "sampler";
    entry[field] = readField(field, isText ? text : number, `${place}: --${flag}`, text);
  }
  return entry as unknown as PromptEntry;
}

const NOTHING_DRAWN = "Nothing was drawn.";

/** The values that each field takes. */
const NUMBERS: Readonly<Record<Exclude<Field, "negativePrompt" | "sampler">, NumberRange>> = {
  width: { integer: true, min: 1, max: 65536, words: "a number of pixels" },
  height: { integer: true, min: 1, max: 65536, words: "a number of pixels" },
  seed: { integer: true, min: 0, max: Number.MAX_SAFE_INTEGER, words: "a whole number of at least 0" },
  steps: { integer: true, min: 1, max: MOST_STEPS, words: `a whole number from 1 to ${MOST_STEPS}` },
  scale: { integer: false, min: 0, max: 1000, words: "a number from 0 to 1000" },
};

interface NumberRange {
  readonly integer: boolean;
  readonly min: number;
  readonly max: number;
  readonly words: string;
}

/**
 * Checks the value of one field.
 *
 * @param label - of the flag or key, for messages
 * @param shown - the value as the user wrote it
 * @throws {DyloraError} `E_CONFIG`
 */
export function readField(field: Field, value: unknown, label: string, shown: string): string | number {
  if (field === "negativePrompt") {
    if (typeof value === "string") return value;
    throw unfit(label, "a text", shown);
  }
  if (field === "sampler") return readSampler(value, label, shown);
  const { integer, min, max, words } = NUMBERS[field];
  const fits =
    typeof value === "number" && value >= min && value <= max && (!integer || Number.isSafeInteger(value));
  if (!fits) throw unfit(label, words, shown);
  return value;
}

function readSampler(value: unknown, label: string, shown: string): SamplerName {
  const name = String(value).toLowerCase();
  const found = SAMPLER_NAMES.find((known) => known === name) ?? SAMPLER_ALIASES[name];
  if (found !== undefined) return found;
  const elsewhere = SAMPLERS_ELSEWHERE[name];
  if (elsewhere === undefined) throw unfit(label, `one of ${SAMPLER_NAMES.join(", ")}`, shown);
  throw new DyloraError("E_CONFIG", `${label} ${shown} is not available`, { note: elsewhere });
}

function unfit(label: string, expected: string, shown: string): DyloraError {
  return new DyloraError("E_CONFIG", `${label} expects ${expected}, found ${JSON.stringify(shown)}`, {
    note: NOTHING_DRAWN,
  });
}

function unknownFlag(flag: string, place: string): DyloraError {
  const elsewhere = Object.hasOwn(FLAGS_ELSEWHERE, flag) ? FLAGS_ELSEWHERE[flag] : undefined;
  if (elsewhere !== undefined) {
    return new DyloraError("E_CONFIG", `${place}: --${flag} is not available`, { note: elsewhere });
  }
  const nearest = nearestName(flag, Object.keys(FLAGS));
  const known = Object.keys(FLAGS).map((name) => `--${name}`);
  return new DyloraError("E_CONFIG", `${place}: unknown flag --${flag}`, {
    note: `${nearest === null ? "" : `Did you mean --${nearest}? `}The flags of a prompt are ${known.join(", ")}.`,
  });
}
