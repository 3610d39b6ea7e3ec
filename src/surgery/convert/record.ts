/**
 * What a conversion loses, written into the converted file so that converting back gives the same bytes.
 *
 * The record holds only what the file's own dialect would not write by itself: other names, matrices where it writes
 * convolutions, types of alphas, the order of the metadata. Whoever changes the converted file in between keeps the change.
 */
import type { AlphaForm, BaseModel, Component, KohyaNaming, WrittenDialect } from "../../adapter/index.js";
import { COMPONENTS, WRITTEN_DIALECTS } from "../../adapter/index.js";
import { type Dtype, isDtype } from "../../safetensors/index.js";

/** Records of earlier conversions follow under this key with `.2`, `.3`, … */
export const RECORD_KEY = "dylora_converted_from";

export interface ConversionRecord {
  readonly version: 1;
  readonly dialect: WrittenDialect;
  /** With `naming`: how the original's names and shapes follow from its modules. */
  readonly model: BaseModel | null;
  readonly naming: Readonly<Record<Component, KohyaNaming>>;
  /** Where not `USUAL_ALPHA`; null: no alphas. */
  readonly alpha?: AlphaForm | null;
  /** By `<component>.<path>`. */
  readonly modules?: Readonly<Record<string, ModuleException>>;
  readonly parts: readonly PartRecord[];
  /** Keys of the converted file's metadata that the original did not have. */
  readonly added: readonly string[];
}

export interface ModuleException {
  readonly down?: FactorException;
  readonly up?: FactorException;
  /** Null: the module has none. */
  readonly alpha?: AlphaException | null;
}

export interface FactorException {
  readonly name?: string;
  readonly dimensions?: 2 | 4;
}

export interface AlphaException {
  readonly name?: string;
  readonly dtype?: Dtype;
  readonly shape?: readonly number[];
  /** Bytes of a number that a double does not give back: a large int64, minus zero. */
  readonly hex?: string;
}

/** One file of the original. */
export interface PartRecord {
  /** As `AdapterPart.folder`. */
  readonly folder: string;
  /** In order; a key alone: the value is in the converted file's metadata, or follows from it. Null: the file had none. */
  readonly metadata: readonly MetadataEntry[] | null;
  /** `adapter_config.json`, where it is not what dylora would write. */
  readonly config?: string;
  /** SHA-256 of its data, where the hashes in its metadata are wrong: they come back with these data only. */
  readonly dataSha256?: string;
}

export type MetadataEntry = string | readonly [key: string, value: string];

const BASE_MODELS: readonly BaseModel[] = ["sd1", "sd2", "sdxl"];

/** A record to follow. */
export interface FoundRecord {
  /** With what the conversions since then added. */
  readonly record: ConversionRecord;
  /** The metadata as if the file had been converted from the record's dialect in one step. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** The latest conversion from a dialect; null where there was none, or its record cannot be read. */
export function findRecord(
  metadata: Readonly<Record<string, string>>,
  dialect: WrittenDialect,
): FoundRecord | null {
  const added: string[] = [];
  for (let depth = 1; Object.hasOwn(metadata, keyAtDepth(depth)); depth++) {
    const record = parseRecord(metadata[keyAtDepth(depth)]!);
    if (record === null) return null;
    added.push(...record.added);
    if (record.dialect !== dialect) continue;
    const entries = Object.entries(metadata).flatMap(([key, value]): [string, string][] => {
      const own = recordDepth(key);
      if (own === null) return [[key, value]];
      return own < depth ? [] : [[keyAtDepth(own - depth + 1), value]];
    });
    return { record: { ...record, added }, metadata: Object.fromEntries(entries) };
  }
  return null;
}

/** Whether there is a record that cannot be read. */
export function hasBrokenRecord(metadata: Readonly<Record<string, string>>): boolean {
  const text = metadata[RECORD_KEY];
  return text !== undefined && parseRecord(text) === null;
}

/** The key that a key of the original's metadata has in the converted file: its own record makes room for the new one. */
export function keyInConverted(key: string): string {
  const depth = recordDepth(key);
  return depth === null ? key : keyAtDepth(depth + 1);
}

function keyAtDepth(depth: number): string {
  return depth === 1 ? RECORD_KEY : `${RECORD_KEY}.${depth}`;
}

function parseRecord(text: string): ConversionRecord | null {
  try {
    const record: unknown = JSON.parse(text);
    return isRecord(record) ? record : null;
  } catch {
    return null;
  }
}

/** 1 for the latest conversion's record; null for other keys. */
function recordDepth(key: string): number | null {
  if (key === RECORD_KEY) return 1;
  const digits = key.startsWith(`${RECORD_KEY}.`) ? key.slice(RECORD_KEY.length + 1) : "";
  return /^[1-9]\d{0,5}$/.test(digits) && digits !== "1" ? Number(digits) : null;
}

function isRecord(value: unknown): value is ConversionRecord {
  return (
    isObject(value) &&
    value.version === 1 &&
    (WRITTEN_DIALECTS as readonly unknown[]).includes(value.dialect) &&
    (value.model === null || (BASE_MODELS as readonly unknown[]).includes(value.model)) &&
    isNaming(value.naming) &&
    optional(value.alpha, (alpha) => alpha === null || isAlphaForm(alpha)) &&
    optional(value.modules, (modules) => isObject(modules) && Object.values(modules).every(isException)) &&
    isArrayOf(value.parts, isPart) &&
    isArrayOf(value.added, isText)
  );
}

function isNaming(value: unknown): boolean {
  const isKnown = (naming: unknown) => naming === "flat" || naming === "sdxl";
  return isObject(value) && COMPONENTS.every((component) => isKnown(value[component]));
}

function isAlphaForm(value: unknown): boolean {
  return isObject(value) && (value.dtype === null || isDtypeName(value.dtype)) && isScalarShape(value.shape);
}

function isException(value: unknown): boolean {
  return (
    isObject(value) &&
    optional(value.down, isFactor) &&
    optional(value.up, isFactor) &&
    optional(value.alpha, (alpha) => alpha === null || isAlpha(alpha))
  );
}

function isFactor(value: unknown): boolean {
  return (
    isObject(value) &&
    optional(value.name, isText) &&
    optional(value.dimensions, (dimensions) => dimensions === 2 || dimensions === 4)
  );
}

function isAlpha(value: unknown): boolean {
  return (
    isObject(value) &&
    optional(value.name, isText) &&
    optional(value.dtype, isDtypeName) &&
    optional(value.shape, isScalarShape) &&
    optional(value.hex, (hex) => isText(hex) && /^(?:[0-9a-f]{2}){1,8}$/.test(hex))
  );
}

function isPart(value: unknown): boolean {
  return (
    isObject(value) &&
    (value.folder === "" || (COMPONENTS as readonly unknown[]).includes(value.folder)) &&
    (value.metadata === null || isArrayOf(value.metadata, isEntry)) &&
    optional(value.config, isText) &&
    optional(value.dataSha256, isText)
  );
}

function isEntry(value: unknown): boolean {
  return isText(value) || (isArrayOf(value, isText) && value.length === 2);
}

function isScalarShape(value: unknown): boolean {
  return isArrayOf(value, (dimension) => dimension === 1) && value.length <= 8;
}

function isDtypeName(value: unknown): boolean {
  return isText(value) && isDtype(value);
}

function optional(value: unknown, check: (value: unknown) => boolean): boolean {
  return value === undefined || check(value);
}

function isArrayOf(value: unknown, check: (item: unknown) => boolean): value is unknown[] {
  return Array.isArray(value) && value.every(check);
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
