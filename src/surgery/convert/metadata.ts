/** Metadata on their way through a conversion, and back. */
import {
  ADAPTER_METADATA_KEY,
  adapterMetadataDescribes,
  buildAdapterMetadata,
} from "../../adapter/adapter-metadata.js";
import { type BaseModel, type Component, pythonFloat, type WrittenDialect } from "../../adapter/index.js";
import { HASH_PLACEHOLDERS } from "../../safetensors/index.js";
import { HASH_KEYS } from "./hashes.js";
import {
  type ConversionRecord,
  type FoundRecord,
  keyInConverted,
  type MetadataEntry,
  type PartRecord,
  RECORD_KEY,
} from "./record.js";

export type Metadata = Readonly<Record<string, string>>;

/** What the dialects' metadata say about a module. */
export interface MetadataModule {
  readonly component: Component;
  readonly path: string;
  readonly rank: number;
  readonly alpha: number;
}

/** The `format` that Python's loaders write, and some ask for. */
const FORMAT = { format: "pt" };

/** Metadata for a dialect that the file was not in before, without the record. */
export function convertedMetadata(
  source: Metadata,
  to: WrittenDialect,
  modules: readonly MetadataModule[],
  model: BaseModel | null,
): Record<string, string> {
  const carried = Object.fromEntries(
    Object.entries(source)
      .filter(([key]) => key !== ADAPTER_METADATA_KEY)
      .map(([key, value]) => [keyInConverted(key), value]),
  );
  if (to === "kohya") return { ...carried, ...networkFacts(source, modules, model) };
  const withFormat = { ...FORMAT, ...carried };
  return to === "diffusers"
    ? { ...withFormat, [ADAPTER_METADATA_KEY]: buildAdapterMetadata(modules) }
    : withFormat;
}

/** Metadata of a file that keeps its dialect. */
export function rewrittenMetadata(
  source: Metadata | null,
  dialect: WrittenDialect,
  modules: readonly MetadataModule[],
): Metadata | null {
  if (dialect !== "diffusers") return source;
  const own = source?.[ADAPTER_METADATA_KEY];
  if (own !== undefined && adapterMetadataDescribes(own, modules)) return source;
  return { ...(source ?? FORMAT), [ADAPTER_METADATA_KEY]: buildAdapterMetadata(modules) };
}

/**
 * How to get a file's metadata back from the converted file's.
 *
 * @param hashesAreRight - the file's own hashes are what writing it again computes
 */
export function recordMetadata(
  original: Metadata | null,
  converted: Metadata,
  modules: readonly MetadataModule[],
  hashesAreRight: boolean,
): MetadataEntry[] | null {
  if (original === null) return null;
  const follows = (key: string, value: string) => {
    if (key === ADAPTER_METADATA_KEY) return buildAdapterMetadata(modules) === value;
    return HASH_KEYS.includes(key) ? hashesAreRight : converted[keyInConverted(key)] === value;
  };
  return Object.entries(original).map(
    ([key, value]): MetadataEntry => (follows(key, value) ? key : [key, value]),
  );
}

/** The metadata that a record tells, with what was changed and added since. */
export function restoredMetadata(
  part: PartRecord,
  { record, metadata: current }: FoundRecord,
  modules: readonly MetadataModule[],
  isFirst: boolean,
): Record<string, string> | null {
  const restored = new Map<string, string>();
  for (const entry of part.metadata ?? []) {
    const [key, recorded] = typeof entry === "string" ? [entry, undefined] : entry;
    const value = restoredValue(key, recorded, current, modules);
    if (value !== undefined) restored.set(key, value);
  }
  // A file of diffusers without alphas means alphas as large as the ranks.
  const needsAlphas = record.dialect === "diffusers" && modules.some(({ alpha, rank }) => alpha !== rank);
  if (needsAlphas && !restored.has(ADAPTER_METADATA_KEY)) {
    restored.set(ADAPTER_METADATA_KEY, buildAdapterMetadata(modules));
  }
  if (isFirst) {
    for (const [key, value] of Object.entries(addedSince(record, current))) restored.set(key, value);
  }
  return part.metadata === null && restored.size === 0 ? null : Object.fromEntries(restored);
}

function restoredValue(
  key: string,
  recorded: string | undefined,
  current: Metadata,
  modules: readonly MetadataModule[],
): string | undefined {
  // Computed when the file is written.
  if (HASH_KEYS.includes(key)) return recorded ?? HASH_PLACEHOLDERS[key];
  if (key !== ADAPTER_METADATA_KEY) return recorded ?? current[keyInConverted(key)];
  const own = recorded !== undefined && adapterMetadataDescribes(recorded, modules) ? recorded : undefined;
  return own ?? buildAdapterMetadata(modules);
}

/** Entries that somebody put into the converted file. */
function addedSince(record: ConversionRecord, current: Metadata): Metadata {
  const known = new Set([RECORD_KEY, ADAPTER_METADATA_KEY, ...HASH_KEYS, ...record.added]);
  for (const { metadata } of record.parts) {
    for (const entry of metadata ?? [])
      known.add(keyInConverted(typeof entry === "string" ? entry : entry[0]));
  }
  return Object.fromEntries(Object.entries(current).filter(([key]) => !known.has(key)));
}

const BASE_MODEL_VERSIONS: Readonly<Partial<Record<BaseModel, string>>> = {
  sd1: "sd_v1",
  // Of SD 2.x neither names nor shapes tell whether it predicts the noise (sd_v2) or the velocity (sd_v2_v).
  sdxl: "sdxl_base_v1-0",
};

/** What A1111 and kohya's tools look for, where no trainer wrote it. */
function networkFacts(
  source: Metadata,
  modules: readonly MetadataModule[],
  model: BaseModel | null,
): Record<string, string> {
  if (Object.keys(source).some((key) => key.startsWith("ss_"))) return {};
  const shared = (values: readonly number[]) => (new Set(values).size === 1 ? values[0]! : null);
  const rank = shared(modules.map((module) => module.rank));
  const alpha = shared(modules.map((module) => module.alpha));
  const version = model === null ? undefined : BASE_MODEL_VERSIONS[model];
  return {
    ss_network_module: "networks.lora",
    ss_network_dim: rank === null ? "Dynamic" : String(rank),
    ss_network_alpha: alpha === null ? "Dynamic" : pythonFloat(alpha),
    ...(version === undefined ? {} : { ss_base_model_version: version }),
  };
}
