import { DyloraError, type ErrorCode } from "../errors.js";
import { nearestName, nearestOption } from "./nearest-name.js";
import { type ConfigOf, camelCase, defaultsOf, type OptionSpec, type OptionTable } from "./option-spec.js";
import { describeExpected, type Reading, readData, readText } from "./option-value.js";

/** An option that users know from sd-scripts and that this project answers with a sentence instead of a function. */
export interface ForeignOption {
  /** `ignored`: it has no meaning here and nothing is lost without it. `refused`: the result would be another one. */
  readonly answer: "ignored" | "refused";
  readonly takes: "nothing" | "value" | "values";
  /** Why, and what to use instead. */
  readonly reason: string;
  /** Values that ask for what dylora does anyway; with them the option passes silently. */
  readonly harmless?: readonly unknown[];
}

export type ForeignOptions = Readonly<Record<string, ForeignOption>>;

/** Which options a command knows. */
export interface OptionSet<Table extends OptionTable = OptionTable> {
  /** Name of the command, the first word of its messages. */
  readonly command: string;
  readonly table: Table;
  readonly foreign?: ForeignOptions;
}

/** What was given explicitly, and what the user should know about it. */
export interface GivenOptions<Table extends OptionTable> {
  readonly values: Partial<ConfigOf<Table>>;
  readonly notes: readonly string[];
}

/** One option as it was found in its source. */
export interface GivenOption {
  /** sd-scripts name, with underscores. */
  readonly name: string;
  readonly value: unknown;
  /** How the source spells it: `--network_dim`, or `network_dim (lora.toml, line 3)`. */
  readonly label: string;
}

/** Reads flags: texts, `true` for a switch, `false` for its `--no_` form, lists of texts. @throws E_USAGE */
export function readFlags<Table extends OptionTable>(
  set: OptionSet<Table>,
  given: readonly GivenOption[],
): GivenOptions<Table> {
  return readGiven(set, given, "E_USAGE", (spec, value) => readText(spec, value as string));
}

/** Reads typed values such as those of a config file. @throws E_CONFIG */
export function readTypedOptions<Table extends OptionTable>(
  set: OptionSet<Table>,
  given: readonly GivenOption[],
): GivenOptions<Table> {
  return readGiven(set, given, "E_CONFIG", readData);
}

function readGiven<Table extends OptionTable>(
  set: OptionSet<Table>,
  given: readonly GivenOption[],
  code: ErrorCode,
  read: (spec: OptionSpec, value: unknown) => Reading,
): GivenOptions<Table> {
  const values: Record<string, unknown> = {};
  const notes: string[] = [];
  for (const option of given) {
    const foreign = set.foreign?.[option.name];
    if (foreign !== undefined) {
      const note = answerForeign(set.command, option, foreign, code);
      if (note !== null) notes.push(note);
      continue;
    }
    const spec = set.table[option.name];
    if (spec === undefined)
      throw new DyloraError("E_INTERNAL", `internal: option ${option.name} is not in the table`);
    const reading = read(spec, option.value);
    if (!reading.ok) throw unfitValue(set.command, option, spec, reading, code);
    values[camelCase(option.name)] = reading.value;
  }
  return { values: values as Partial<ConfigOf<Table>>, notes };
}

function unfitValue(
  command: string,
  option: GivenOption,
  spec: OptionSpec,
  reading: Reading & { ok: false },
  code: ErrorCode,
): DyloraError {
  if ("refusedBecause" in reading) {
    return new DyloraError(code, `${command}: ${option.label} ${String(option.value)} is not available`, {
      note: reading.refusedBecause,
    });
  }
  const meant = spec.type === "enum" ? nearestName(String(option.value), spec.values) : null;
  return new DyloraError(
    code,
    `${command}: ${option.label} expects ${reading.expected}, found ${describeFound(option.value)}`,
    { note: meant === null ? "Nothing was started." : `Did you mean ${meant}?` },
  );
}

/** The note about an ignored option, or null when its value asks for nothing. @throws for a refused one */
function answerForeign(
  command: string,
  option: GivenOption,
  foreign: ForeignOption,
  code: ErrorCode,
): string | null {
  if (isHarmless(option.value, foreign.harmless)) return null;
  if (foreign.answer === "ignored") return `${option.label} is ignored: ${foreign.reason}`;
  throw new DyloraError(code, `${command}: ${option.label} is not available`, { note: foreign.reason });
}

function isHarmless(value: unknown, harmless: readonly unknown[] = []): boolean {
  if (value === false || value === null || value === "" || (Array.isArray(value) && value.length === 0))
    return true;
  return harmless.some((one) => one === value || String(one) === value);
}

function describeFound(value: unknown): string {
  if (Array.isArray(value)) return `the list ${JSON.stringify(value)}`;
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "object" && value !== null) return "a table";
  return String(value);
}

/** Checks a complete or partial configuration object of a program that uses the library. @throws E_CONFIG */
export function readConfigObject<Table extends OptionTable>(
  set: OptionSet<Table>,
  config: Readonly<Record<string, unknown>>,
): Partial<ConfigOf<Table>> {
  const names = new Map(Object.keys(set.table).map((name) => [camelCase(name) as string, name]));
  const values: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(config)) {
    const spec = set.table[names.get(key) ?? ""];
    if (spec === undefined) throw unknownField(set, key);
    if (value === undefined) continue;
    if (value === null && spec.default === null && spec.required !== true) {
      values[key] = null;
      continue;
    }
    const reading = readData(spec, value);
    if (!reading.ok) {
      throw new DyloraError(
        "E_CONFIG",
        `${set.command}: ${key} expects ${describeExpected(spec)}, found ${describeFound(value)}`,
        "refusedBecause" in reading ? { note: reading.refusedBecause } : {},
      );
    }
    values[key] = reading.value;
  }
  return values as Partial<ConfigOf<Table>>;
}

function unknownField(set: OptionSet, key: string): DyloraError {
  const nearest = nearestOption(
    key.replace(/[A-Z]/g, (letter) => `_${letter}`),
    set.table,
  );
  const note = nearest === null ? {} : { note: `Did you mean ${camelCase(nearest)}?` };
  return new DyloraError("E_CONFIG", `${set.command}: unknown option ${key}`, note);
}

/**
 * Completes what was given with the table's defaults.
 *
 * @param code - `E_USAGE` for a command line, `E_CONFIG` for anything else
 * @throws the code, naming every required option that is missing
 */
export function completeOptions<Table extends OptionTable>(
  set: OptionSet<Table>,
  given: Partial<ConfigOf<Table>>,
  code: ErrorCode,
): ConfigOf<Table> {
  const values = given as Readonly<Record<string, unknown>>;
  const missing = Object.entries<OptionSpec>(set.table)
    .filter(([name, spec]) => spec.required && values[camelCase(name)] === undefined)
    .map(([name]) => `--${name}`);
  if (missing.length > 0) {
    const verb = missing.length > 1 ? "are" : "is";
    throw new DyloraError(code, `${set.command}: ${missing.join(" and ")} ${verb} missing`, {
      note: `\`dylora ${set.command} --help\` shows examples.`,
    });
  }
  return { ...defaultsOf(set.table), ...given } as unknown as ConfigOf<Table>;
}
