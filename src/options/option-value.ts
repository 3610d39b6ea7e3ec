import path from "node:path";
import type { IntegersOption, NumberOption, NumbersOption, OptionSpec, Resolution } from "./option-spec.js";

/** A value that fits its option, or what was expected in its place. */
export type Reading =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly expected: string }
  /** A value that is well known elsewhere and refused here, with the reason. */
  | { readonly ok: false; readonly expected: string; readonly refusedBecause: string };

/** Reads what was typed after a flag. A switch has no text: `true` means it was given. */
export function readText(spec: OptionSpec, text: string | boolean | readonly string[]): Reading {
  switch (spec.type) {
    case "integer":
    case "number":
      return checkNumber(spec, typeof text === "string" ? numberFromText(text) : Number.NaN);
    case "steps":
      return checkSteps(spec, typeof text === "string" ? stepsFromText(text) : Number.NaN);
    case "resolution":
      return checkResolution(spec, typeof text === "string" ? text.split(",").map(numberFromText) : []);
    case "integers":
      return checkIntegers(spec, typeof text === "string" ? text.split(",").map(numberFromText) : []);
    case "numbers":
      return checkNumbers(spec, typeof text === "string" ? text.split(",").map(numberFromText) : []);
    default:
      return readData(spec, text);
  }
}

/** Reads a typed value: from a config file, or from a program that uses the library. */
export function readData(spec: OptionSpec, data: unknown): Reading {
  switch (spec.type) {
    case "boolean":
      return typeof data === "boolean" ? ok(data) : fail(spec);
    case "integer":
    case "number": {
      const single = spec.listOfOne && Array.isArray(data) && data.length === 1 ? data[0] : data;
      return checkNumber(spec, single);
    }
    case "steps":
      return checkSteps(spec, typeof data === "string" && data.endsWith("%") ? stepsFromText(data) : data);
    case "enum":
      return checkEnum(spec, data);
    case "text":
      return typeof data === "string" ? ok(data) : fail(spec);
    case "path":
      return typeof data === "string" && data !== "" ? ok(path.resolve(data)) : fail(spec);
    case "list":
      return Array.isArray(data) && data.every((item) => typeof item === "string")
        ? ok([...data])
        : fail(spec);
    case "integers":
      return checkIntegers(spec, Array.isArray(data) ? data : []);
    case "numbers":
      return checkNumbers(spec, Array.isArray(data) ? data : []);
    case "resolution": {
      if (typeof data === "number") return checkResolution(spec, [data]);
      if (typeof data === "string") return checkResolution(spec, data.split(",").map(numberFromText));
      if (Array.isArray(data)) return checkResolution(spec, data);
      if (isResolution(data)) return checkResolution(spec, [data.width, data.height]);
      return fail(spec);
    }
  }
}

/** What an option takes, as the end of a sentence: "expects …". */
export function describeExpected(spec: OptionSpec): string {
  switch (spec.type) {
    case "boolean":
      return "true or false";
    case "integer":
      return `a whole number${describeBounds(spec)}`;
    case "number":
      return `a number${describeBounds(spec)}`;
    case "steps":
      return 'a number of steps, or a share of all steps below 1 (0.1 or "10%")';
    case "enum":
      return spec.values.length === 1 ? `"${spec.values[0]}"` : `one of ${spec.values.join(", ")}`;
    case "text":
      return "a text";
    case "path":
      return "a path";
    case "list":
      return 'a list of texts such as ["key=value"]';
    case "integers":
      return `whole numbers of at least ${spec.min}, separated by commas: 4,8,16`;
    case "numbers":
      return `numbers from ${spec.min} to ${spec.max}, separated by commas: 0.5,1`;
    case "resolution":
      return 'a size in pixels: "512", or "768,512" for width and height';
  }
}

function describeBounds(spec: NumberOption): string {
  const { min, max, above, below } = spec;
  if (min !== undefined && max !== undefined) return ` from ${min} to ${max}`;
  const lower = min !== undefined ? `of at least ${min}` : above !== undefined ? `above ${above}` : undefined;
  const upper = max !== undefined ? `at most ${max}` : below !== undefined ? `below ${below}` : undefined;
  const bounds = [lower, upper].filter((bound) => bound !== undefined).join(" and ");
  return bounds === "" ? "" : ` ${bounds}`;
}

function checkNumber(spec: NumberOption, value: unknown): Reading {
  if (typeof value !== "number" || !Number.isFinite(value)) return fail(spec);
  if (spec.type === "integer" && !Number.isSafeInteger(value)) return fail(spec);
  const { min = -Infinity, max = Infinity, above = -Infinity, below = Infinity } = spec;
  return value >= min && value <= max && value > above && value < below ? ok(value) : fail(spec);
}

function checkSteps(spec: OptionSpec, value: unknown): Reading {
  if (typeof value !== "number" || !Number.isFinite(value) || value < 0) return fail(spec);
  return value < 1 || Number.isSafeInteger(value) ? ok(value) : fail(spec);
}

function checkIntegers(spec: IntegersOption, numbers: readonly unknown[]): Reading {
  const fits = (item: unknown) => Number.isSafeInteger(item) && (item as number) >= spec.min;
  return numbers.length > 0 && numbers.every(fits) ? ok([...numbers]) : fail(spec);
}

function checkNumbers(spec: NumbersOption, numbers: readonly unknown[]): Reading {
  const fits = (item: unknown) =>
    typeof item === "number" && Number.isFinite(item) && item >= spec.min && item <= spec.max;
  return numbers.length > 0 && numbers.every(fits) ? ok([...numbers]) : fail(spec);
}

function checkResolution(spec: OptionSpec, numbers: readonly unknown[]): Reading {
  const [width, height = width] = numbers;
  const fits = (side: unknown): side is number => Number.isSafeInteger(side) && (side as number) > 0;
  if (numbers.length > 2 || !fits(width) || !fits(height)) return fail(spec);
  return ok({ width, height } satisfies Resolution);
}

function checkEnum(spec: OptionSpec & { type: "enum" }, data: unknown): Reading {
  if (typeof data !== "string") return fail(spec);
  const same = (a: string) => (spec.ignoreCase ? a.toLowerCase() === data.toLowerCase() : a === data);
  const value = spec.values.find(same);
  if (value !== undefined) return ok(value);
  const alias = Object.keys(spec.aliases ?? {}).find(same);
  if (alias !== undefined) return ok(spec.aliases?.[alias]);
  const refused = Object.keys(spec.refused ?? {}).find(same);
  if (refused === undefined) return fail(spec);
  return { ok: false, expected: describeExpected(spec), refusedBecause: spec.refused?.[refused] ?? "" };
}

/** Strict: no empty text, no hexadecimal, no trailing unit. */
function numberFromText(text: string): number {
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text.trim()) ? Number(text) : Number.NaN;
}

function stepsFromText(text: string): number {
  return text.endsWith("%") ? numberFromText(text.slice(0, -1)) / 100 : numberFromText(text);
}

function isResolution(data: unknown): data is Resolution {
  return typeof data === "object" && data !== null && "width" in data && "height" in data;
}

function ok(value: unknown): Reading {
  return { ok: true, value };
}

function fail(spec: OptionSpec): Reading {
  return { ok: false, expected: describeExpected(spec) };
}
