/**
 * PEFT's `LoraConfig`: the ranks and alphas of an adapter whose tensors do not tell them.
 *
 * PEFT writes it as `adapter_config.json`, diffusers as `lora_adapter_metadata` inside of the file.
 */
import { DyloraError } from "../errors.js";
import { PathPatterns } from "./path-patterns.js";

/** What `LoraConfig` assumes for fields that are not there. */
const DEFAULTS = { r: 8, lora_alpha: 8 } as const;

export interface ConfiguredModule {
  /** Inside its component, as diffusers and transformers name it. */
  readonly path: string;
  readonly rank: number;
  readonly alpha: number;
}

/** The fields that say which modules have which rank and alpha, under PEFT's names. */
export interface LoraConfigFields {
  readonly r: number;
  readonly lora_alpha: number;
  readonly rank_pattern: Readonly<Record<string, number>>;
  readonly alpha_pattern: Readonly<Record<string, number>>;
  readonly target_modules: readonly string[];
}

export class LoraConfig {
  readonly #rank: number;
  readonly #alpha: number;
  readonly #ranks: PathPatterns;
  readonly #alphas: PathPatterns;
  readonly #isRankStabilized: boolean;

  /**
   * @param fields - the object as it was parsed
   * @param subject - for errors: `read lora/adapter_config.json`
   * @throws {DyloraError} `E_FORMAT` for a field of another type; `E_INCOMPATIBLE` for another method than LoRA
   */
  constructor(fields: unknown, subject: string) {
    if (!isObject(fields)) throw malformed(`${subject}: it is no JSON object`);
    const method = fields.peft_type ?? "LORA";
    if (method !== "LORA") {
      throw new DyloraError("E_INCOMPATIBLE", `${subject}: the adapter is no LoRA but ${describe(method)}`, {
        note: "The file was not changed. dylora works on plain LoRA modules.",
      });
    }
    this.#rank = numberField(fields, "r", DEFAULTS.r, subject);
    this.#alpha = numberField(fields, "lora_alpha", DEFAULTS.lora_alpha, subject);
    this.#ranks = patternField(fields, "rank_pattern", subject);
    this.#alphas = patternField(fields, "alpha_pattern", subject);
    this.#isRankStabilized = fields.use_rslora === true;
  }

  rankOf(path: string): number {
    return this.#ranks.find(path) ?? this.#rank;
  }

  /**
   * The alpha that gives a module its strength as alpha / rank.
   *
   * With `use_rslora` PEFT multiplies by lora_alpha / sqrt(rank) (Kalajdzievski 2023, arXiv:2312.03732).
   */
  alphaOf(path: string, rank: number): number {
    const alpha = this.#alphas.find(path) ?? this.#alpha;
    return this.#isRankStabilized ? alpha * Math.sqrt(rank) : alpha;
  }
}

/** The fields for these modules: the commonest rank and alpha, and patterns with whole paths for the others. */
export function buildLoraConfig(modules: readonly ConfiguredModule[]): LoraConfigFields {
  const sorted = [...modules].sort((a, b) => (a.path < b.path ? -1 : 1));
  const rank = commonest(sorted.map((module) => module.rank)) ?? DEFAULTS.r;
  const alpha = commonest(sorted.map((module) => module.alpha)) ?? DEFAULTS.lora_alpha;
  const pattern = (field: "rank" | "alpha", usual: number) =>
    Object.fromEntries(
      sorted.filter((module) => module[field] !== usual).map((module) => [module.path, module[field]]),
    );
  return {
    r: rank,
    lora_alpha: alpha,
    rank_pattern: pattern("rank", rank),
    alpha_pattern: pattern("alpha", alpha),
    target_modules: sorted.map(({ path }) => path),
  };
}

/** JSON as Python writes it with `indent=2, sort_keys=True`. */
export function sortedJson(value: unknown): string {
  return JSON.stringify(sortKeys(value), null, 2);
}

function sortKeys(value: unknown): unknown {
  if (!isObject(value)) return value;
  const keys = Object.keys(value).sort();
  return Object.fromEntries(keys.map((key) => [key, sortKeys(value[key])]));
}

/** Of equally common values the smallest, so that the order of the modules does not matter. */
function commonest(values: readonly number[]): number | undefined {
  const counts = new Map<number, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  const ranked = [...counts].sort(([a, countA], [b, countB]) => countB - countA || a - b);
  return ranked[0]?.[0];
}

function numberField(
  fields: Readonly<Record<string, unknown>>,
  key: string,
  usual: number,
  subject: string,
): number {
  const value = fields[key] ?? usual;
  if (typeof value === "number" && Number.isFinite(value)) return value;
  throw malformed(`${subject}: ${key} is ${describe(value)} instead of a number`);
}

function patternField(fields: Readonly<Record<string, unknown>>, key: string, subject: string): PathPatterns {
  const value = fields[key] ?? {};
  if (!isObject(value)) throw malformed(`${subject}: ${key} is no object`);
  const entries = Object.keys(value).map(
    (path) => [path, numberField(value, path, 0, `${subject}: ${key}`)] as const,
  );
  return new PathPatterns(entries, `${subject}: ${key}`);
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function describe(value: unknown): string {
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" ? "an object" : JSON.stringify(value).slice(0, 80);
}

function malformed(message: string): DyloraError {
  return new DyloraError("E_FORMAT", message, { note: "The file was not changed." });
}
