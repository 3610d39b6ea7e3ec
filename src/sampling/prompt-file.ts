/** Prompt files as sd-scripts reads them: text with one prompt a line, TOML, or JSON. */

import { readFile } from "node:fs/promises";
import { extname } from "node:path";
import { parse, TomlError } from "smol-toml";
import { DyloraError } from "../errors.js";
import { readError } from "../io/index.js";
import { type PromptEntry, parsePromptLine, readField } from "./prompt-line.js";

export type { PromptEntry };

/** Keys of an entry in TOML and JSON; null: known to sd-scripts only, or of no effect. */
const KEYS: Readonly<Record<string, Exclude<keyof PromptEntry, "prompt">>> = {
  negative_prompt: "negativePrompt",
  width: "width",
  height: "height",
  seed: "seed",
  sample_steps: "steps",
  scale: "scale",
  sample_sampler: "sampler",
};

/**
 * Reads a prompt file.
 *
 * - `.txt`: a prompt a line, with flags (see {@link parsePromptLine}); empty lines and those that start with `#` are skipped.
 * - `.toml`: defaults in `[prompt]`, one `[[prompt.subset]]` for every picture.
 * - `.json`: a list of lines with flags, or of objects.
 *
 * @throws {DyloraError} `E_NOT_FOUND`, `E_READ`; `E_CONFIG` for what is in it, with the place
 */
export async function readPromptFile(path: string): Promise<PromptEntry[]> {
  const text = await readFile(path, "utf8").catch((cause: unknown) => {
    throw readError(path, cause);
  });
  const entries = readEntries(path, text.replace(/^\ufeff/, ""));
  if (entries.length === 0) throw new DyloraError("E_CONFIG", `${path}: there is no prompt in it`);
  return entries;
}

function readEntries(path: string, text: string): PromptEntry[] {
  switch (extname(path).toLowerCase()) {
    case ".toml":
      return tomlEntries(path, text);
    case ".json":
      return jsonEntries(path, text);
    case ".txt":
      return text.split(/\r?\n/).flatMap((line, index) => {
        const isPrompt = line.trim() !== "" && !line.startsWith("#");
        return isPrompt ? [parsePromptLine(line.trim(), `${path}, line ${index + 1}`)] : [];
      });
    default:
      throw new DyloraError("E_CONFIG", `${path}: a prompt file ends in .txt, .toml or .json`);
  }
}

function tomlEntries(path: string, text: string): PromptEntry[] {
  let document: Record<string, unknown>;
  try {
    document = parse(text);
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause;
    throw new DyloraError(
      "E_CONFIG",
      `${path} is not valid TOML (line ${cause.line}, column ${cause.column})`,
      {
        note: cause.codeblock.trimEnd(),
        cause,
      },
    );
  }
  const { subset, ...defaults } = isRecord(document.prompt) ? document.prompt : {};
  if (!Array.isArray(subset)) {
    throw new DyloraError("E_CONFIG", `${path}: expected a [[prompt.subset]] for every picture, found none`);
  }
  return subset.map((entry: unknown, index) =>
    recordEntry({ ...defaults, ...asRecord(entry, path) }, `${path}, subset ${index + 1}`),
  );
}

function jsonEntries(path: string, text: string): PromptEntry[] {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (cause) {
    throw new DyloraError("E_CONFIG", `${path} is not valid JSON: ${(cause as Error).message}`, { cause });
  }
  if (!Array.isArray(document)) {
    throw new DyloraError("E_CONFIG", `${path}: expected a list of prompts, found ${typeof document}`);
  }
  return document.map((entry: unknown, index) => {
    const place = `${path}, entry ${index + 1}`;
    return typeof entry === "string"
      ? parsePromptLine(entry, place)
      : recordEntry(asRecord(entry, place), place);
  });
}

function recordEntry(record: Readonly<Record<string, unknown>>, place: string): PromptEntry {
  const { prompt = "", ...others } = record;
  if (typeof prompt !== "string") throw new DyloraError("E_CONFIG", `${place}: prompt expects a text`);
  const entry: Record<string, unknown> = { prompt };
  for (const [key, value] of Object.entries(others)) {
    const field = Object.hasOwn(KEYS, key) ? KEYS[key]! : null;
    if (field === null) {
      throw new DyloraError("E_CONFIG", `${place}: unknown key ${key}`, {
        note: `The keys of a prompt are prompt, ${Object.keys(KEYS).join(", ")}.`,
      });
    }
    entry[field] = readField(field, value, `${place}: ${key}`, String(value));
  }
  return entry as unknown as PromptEntry;
}

function asRecord(value: unknown, place: string): Record<string, unknown> {
  if (isRecord(value)) return value;
  throw new DyloraError("E_CONFIG", `${place}: expected an entry with the key prompt, found ${typeof value}`);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
