/**
 * Options whose value is itself a list of `key=value` entries, as sd-scripts has them: `--network_args unit=4 conv_dim=8`,
 * `--optimizer_args weight_decay=0.1`, `--lr_scheduler_args step_rules=1:10,0.1`.
 */
import { DyloraError } from "../errors.js";
import { nearestName } from "./nearest-name.js";

/** The limits of a number; without any, every finite number will do. */
export interface NumberLimits {
  integer?: true;
  /** Smallest allowed. */
  min?: number;
  /** Must be larger than. */
  above?: number;
  /** Must be smaller than. */
  below?: number;
}

export class KeyValues {
  /** The option, for messages: `network_args`. */
  readonly option: string;
  readonly #values: ReadonlyMap<string, string>;

  private constructor(option: string, values: ReadonlyMap<string, string>) {
    this.option = option;
    this.#values = values;
  }

  /**
   * Splits and checks the entries; `-` and `_` in keys are the same.
   *
   * @param option - the option's name without dashes
   * @param known - the keys that exist
   * @param answers - what to tell those who give a key of another program
   * @throws {DyloraError} `E_CONFIG` for an entry without `=`, an unknown or a repeated key
   */
  static parse(
    option: string,
    entries: readonly string[],
    known: readonly string[],
    answers: Readonly<Record<string, string>> = {},
  ): KeyValues {
    const values = new Map<string, string>();
    for (const entry of entries) {
      const equals = entry.indexOf("=");
      if (equals <= 0) {
        throw new DyloraError("E_CONFIG", `${option}: "${entry}" is not of the form key=value`, {
          note: `Known keys: ${known.join(", ")}.`,
        });
      }
      const key = entry.slice(0, equals).trim().replaceAll("-", "_");
      if (!known.includes(key)) throw unknownKey(option, key, known, answers);
      if (values.has(key)) throw new DyloraError("E_CONFIG", `${option}: ${key} is given twice`);
      values.set(key, entry.slice(equals + 1).trim());
    }
    return new KeyValues(option, values);
  }

  get keys(): string[] {
    return [...this.#values.keys()];
  }

  text(key: string): string | null {
    return this.#values.get(key) ?? null;
  }

  /** @throws {DyloraError} `E_CONFIG` for anything but a number within the limits */
  number(key: string, limits: NumberLimits = {}): number | null {
    const text = this.text(key);
    return text === null ? null : this.#toNumber(key, text, limits);
  }

  /** Comma-separated numbers. */
  numbers(key: string, limits: NumberLimits = {}): number[] | null {
    const text = this.text(key);
    return text === null ? null : text.split(",").map((item) => this.#toNumber(key, item.trim(), limits));
  }

  choice<Choice extends string>(key: string, choices: readonly Choice[]): Choice | null {
    const text = this.text(key);
    if (text === null) return null;
    const choice = choices.find((candidate) => candidate === text);
    if (choice === undefined) throw this.error(`${key} must be ${choices.join(" or ")}, got "${text}"`);
    return choice;
  }

  error(what: string, note?: string): DyloraError {
    return new DyloraError("E_CONFIG", `${this.option}: ${what}`, note === undefined ? {} : { note });
  }

  #toNumber(key: string, text: string, limits: NumberLimits): number {
    const value = text === "" ? Number.NaN : Number(text);
    const { integer, min, above, below } = limits;
    if (
      !Number.isFinite(value) ||
      (integer && !Number.isSafeInteger(value)) ||
      (min !== undefined && value < min) ||
      (above !== undefined && value <= above) ||
      (below !== undefined && value >= below)
    ) {
      throw this.error(`${key} must be ${describeLimits(limits)}, got "${text}"`);
    }
    return value;
  }
}

function describeLimits({ integer, min, above, below }: NumberLimits): string {
  const parts = [integer ? "a whole number" : "a number"];
  if (min !== undefined) parts.push(`from ${min}`);
  if (above !== undefined) parts.push(`above ${above}`);
  if (below !== undefined)
    parts.push(min === undefined && above === undefined ? `below ${below}` : `and below ${below}`);
  return parts.join(" ");
}

function unknownKey(
  option: string,
  key: string,
  known: readonly string[],
  answers: Readonly<Record<string, string>>,
): DyloraError {
  if (Object.hasOwn(answers, key)) {
    return new DyloraError("E_CONFIG", `${option}: ${key} is not a key of dylora`, { note: answers[key]! });
  }
  const nearest = nearestName(key, known);
  const hint = nearest === null ? "" : `; did you mean ${nearest}?`;
  return new DyloraError("E_CONFIG", `${option}: unknown key ${key}${hint}`, {
    note: known.length === 0 ? "It takes no keys." : `Known keys: ${known.join(", ")}.`,
  });
}
