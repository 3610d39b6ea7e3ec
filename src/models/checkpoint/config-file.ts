/** Reading the config.json files of a diffusers folder, with errors that name file and field. */
import { readFile } from "node:fs/promises";
import { DyloraError } from "../../errors.js";
import { readError } from "../../io/file-error.js";
import { incompatible } from "./problem.js";

/** One config.json. Fields that are absent or null take the default; without a default they are required. */
export class ConfigFile {
  /**
   * @param root - checkpoint folder, for messages
   * @param name - path inside it, for messages
   */
  constructor(
    readonly root: string,
    readonly name: string,
    readonly fields: Readonly<Record<string, unknown>>,
  ) {}

  /** @throws {DyloraError} `E_NOT_FOUND`, `E_READ`, or `E_FORMAT` if it is not a JSON object */
  static async read(root: string, name: string, filePath: string): Promise<ConfigFile> {
    let text: string;
    try {
      text = await readFile(filePath, "utf8");
    } catch (cause) {
      throw readError(filePath, cause);
    }
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (cause) {
      throw formatError(filePath, "not valid JSON", cause);
    }
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw formatError(filePath, "expected a JSON object");
    }
    return new ConfigFile(root, name, value as Record<string, unknown>);
  }

  /** A finite number greater than 0 (or at least `min`). */
  number(field: string, fallback?: number, min: number = Number.MIN_VALUE): number {
    const value = this.fields[field] ?? fallback;
    if (typeof value === "number" && Number.isFinite(value) && value >= min) return value;
    throw this.wrong(field, min === Number.MIN_VALUE ? "a number above 0" : `a number from ${min}`);
  }

  /** A whole number from 1. */
  integer(field: string, fallback?: number): number {
    return this.#asInteger(field, this.fields[field] ?? fallback);
  }

  /** A list of whole numbers from 1. */
  integers(field: string): number[] {
    const value = this.fields[field];
    if (!Array.isArray(value) || value.length === 0) throw this.wrong(field, "a list of whole numbers");
    return value.map((item) => this.#asInteger(field, item));
  }

  /** A list of `length` whole numbers, or one for all. */
  integerOrList(field: string, length: number, fallback?: number): number[] {
    const value = this.fields[field] ?? fallback;
    if (!Array.isArray(value)) return new Array<number>(length).fill(this.#asInteger(field, value));
    if (value.length !== length) throw this.wrong(field, `${length} numbers, one for each level`);
    return value.map((item) => this.#asInteger(field, item));
  }

  boolean(field: string, fallback: boolean): boolean {
    const value = this.fields[field] ?? fallback;
    if (typeof value === "boolean") return value;
    throw this.wrong(field, "true or false");
  }

  string(field: string, fallback?: string): string {
    const value = this.fields[field] ?? fallback;
    if (typeof value === "string") return value;
    throw this.wrong(field, "a string");
  }

  strings(field: string): string[] {
    const value = this.fields[field];
    if (Array.isArray(value) && value.every((item) => typeof item === "string")) return value;
    throw this.wrong(field, "a list of strings");
  }

  /** One of `choices`. */
  oneOf<T extends string>(field: string, choices: readonly T[], fallback?: T): T {
    const value = this.fields[field] ?? fallback;
    const choice = choices.find((candidate) => candidate === value);
    if (choice === undefined) throw this.wrong(field, choices.join(" or "));
    return choice;
  }

  /** Refuses a field whose value changes what the model computes; absent and null are always fine. */
  requireNeutral(field: string, neutral: readonly unknown[]): void {
    const value = this.fields[field] ?? null;
    const values: readonly unknown[] = Array.isArray(value) ? value : [value];
    if (values.some((item) => item !== null && !neutral.includes(item))) {
      throw this.wrong(field, neutral.length === 0 ? "no value" : neutral.map(String).join(" or "));
    }
  }

  #asInteger(field: string, value: unknown): number {
    if (typeof value === "number" && Number.isSafeInteger(value) && value >= 1) return value;
    throw this.wrong(field, "a whole number from 1");
  }

  /** A field that holds something this project cannot take. */
  wrong(field: string, expected: string): DyloraError {
    const value = this.fields[field];
    const found = value === undefined ? "nothing" : JSON.stringify(value);
    return incompatible(
      this.root,
      `${this.name}: ${field} is ${found}; expected ${expected}`,
      "Only plain Stable Diffusion 1.x and 2.x models are supported. If this is one, its config was changed: get it again.",
    );
  }
}

function formatError(filePath: string, problem: string, cause?: unknown): DyloraError {
  return new DyloraError("E_FORMAT", `read ${filePath}: ${problem}`, {
    note: "The file is damaged. Get the checkpoint again.",
    cause,
  });
}
