/** The files of a conversion: which tensors go where, and what stands beside them. */
import { join } from "node:path";
import { detectDialect } from "../../adapter/dialects/index.js";
import { type Adapter, COMPONENTS, type Component, type WrittenDialect } from "../../adapter/index.js";
import { buildPeftConfig, updatePeftConfig } from "../../adapter/peft-config.js";
import { PEFT_CONFIG, PEFT_WEIGHTS } from "../../adapter/peft-folder.js";
import { DyloraError } from "../../errors.js";
import {
  buildHeader,
  type DataLayout,
  HASH_PLACEHOLDERS,
  layoutData,
  type TensorSpec,
} from "../../safetensors/index.js";
import { type EncodedPair, metadataModules } from "./encode.js";
import { hasHashes } from "./hashes.js";
import { convertedMetadata, type Metadata, restoredMetadata, rewrittenMetadata } from "./metadata.js";
import { type ConversionRecord, type FoundRecord, type PartRecord, RECORD_KEY } from "./record.js";
import type { ConvertSource, SourceModule } from "./source.js";

/** Where a tensor's bytes come from: a tensor of the source by its name, or here. */
export type ConvertContent = string | Uint8Array;

/** One file of the output. */
export interface ConvertPart {
  readonly path: string;
  readonly sizeBytes: number;
  readonly layout: DataLayout;
  readonly metadata: Metadata | null;
  /**
   * What becomes of `sshs_model_hash` and `sshs_legacy_hash`. A SHA-256: the wrong ones in `metadata` stay if the data still
   * have it, otherwise as `compute`.
   */
  readonly hashes: "none" | "compute" | { readonly keepFor: string };
  readonly contents: ReadonlyMap<string, ConvertContent>;
  /** The file beside it. */
  readonly config: { readonly path: string; readonly text: string } | null;
}

/** A file of the output before its metadata are known. */
export interface PartDraft {
  readonly folder: string;
  readonly modules: readonly SourceModule[];
  readonly specs: readonly TensorSpec[];
  readonly contents: ReadonlyMap<string, ConvertContent>;
}

/** Which folder a component's file is in. */
export function folderAssignment(
  to: WrittenDialect,
  { modules }: ConvertSource,
  record: ConversionRecord | null,
): (component: Component) => string {
  if (to !== "peft") return () => "";
  const isRecordedFlat = record?.parts.some(({ folder }) => folder === "");
  if (isRecordedFlat !== undefined) return isRecordedFlat ? () => "" : (component) => component;
  const components = new Set(modules.map(({ known }) => known.component));
  // Alone, a second text encoder could not be told from a first one.
  const isFlat = components.size <= 1 && !components.has("text_encoder_2");
  return isFlat ? () => "" : (component) => component;
}

/** A tensor that no dialect but its own has a name for. */
export interface KeptTensor extends TensorSpec {
  /** Its name in the source, if `name` is another one. */
  readonly sourceName: string;
  /** The file of the output that it goes into; null: the first one. */
  readonly folder: string | null;
}

/**
 * Kept tensors stay in the file that they are in, and have the names that they have there.
 *
 * @param restored - the record that the conversion follows
 */
export function placeKept(
  source: Adapter,
  to: WrittenDialect,
  tensors: readonly TensorSpec[],
  restored: ConversionRecord | null,
): KeptTensor[] {
  return tensors.map(({ name, dtype, shape }): KeptTensor => {
    const slash = name.indexOf("/");
    const folder = name.slice(0, Math.max(0, slash));
    const isInFolder = source.parts.some((part) => part.folder !== "" && part.folder === folder);
    const spec = { dtype, shape, sourceName: name };
    // On the way back a folder in the name is what reading the folders put there, or what leaving them did.
    const wasInFolder = restored?.parts.some((part) => part.folder !== "" && part.folder === folder) ?? false;
    if (to === "peft" && (isInFolder || wasInFolder)) return { ...spec, name: name.slice(slash + 1), folder };
    if (isInFolder && restored !== null) return { ...spec, name: name.slice(slash + 1), folder: null };
    return { ...spec, name, folder: null };
  });
}

export function draftParts(
  folderOf: (component: Component) => string,
  encoded: readonly EncodedPair[],
  kept: readonly KeptTensor[],
): PartDraft[] {
  const folders = COMPONENTS.filter(
    (component) =>
      encoded.some(({ source }) => source.known.component === component) ||
      kept.some(({ folder }) => folder === component),
  );
  return [...new Set(folders.map(folderOf))].map((folder, _, all): PartDraft => {
    const own = encoded.filter(({ source }) => folderOf(source.known.component) === folder);
    const specs: TensorSpec[] = [];
    const contents = new Map<string, ConvertContent>();
    const add = ({ name, dtype, shape }: TensorSpec, content: ConvertContent) => {
      specs.push({ name, dtype, shape });
      contents.set(name, content);
    };
    for (const { source, encoded: tensors } of own) {
      add(tensors.down, source.module.down.name);
      add(tensors.up, source.module.up.name);
      if (tensors.alpha !== null) add(tensors.alpha, tensors.alpha.bytes);
    }
    for (const tensor of kept) {
      const place = tensor.folder !== null && all.includes(tensor.folder) ? tensor.folder : all[0];
      if (place === folder) add(tensor, tensor.sourceName);
    }
    return { folder, modules: own.map(({ source }) => source), specs, contents };
  });
}

/**
 * Checks that the output will be read as what it is.
 *
 * @throws {DyloraError} `E_INCOMPATIBLE`
 */
export function checkDrafts(
  sourcePath: string,
  to: WrittenDialect,
  drafts: readonly PartDraft[],
  kept: readonly KeptTensor[],
  isReturn: boolean,
): void {
  for (const { specs } of drafts) {
    const seen = new Set<string>(["__metadata__"]);
    for (const { name } of specs) {
      if (seen.has(name)) {
        throw ambiguous(sourcePath, `two tensors would be named ${name}`, "The file holds a module twice.");
      }
      seen.add(name);
    }
  }
  if (kept.length === 0) return;
  const detected = detectDialect(drafts.flatMap(({ specs }) => specs.map(({ name }) => name)));
  if (detected !== null && detected.dialect.id !== to) {
    throw ambiguous(
      sourcePath,
      `${kept.length} tensors would keep their names, and the file would be taken for ${detected.dialect.title}`,
      "Most of the file cannot be converted.",
    );
  }
  const mistaken = isReturn ? undefined : kept.find(({ name }) => detected?.roles.has(name));
  if (mistaken !== undefined) {
    throw ambiguous(
      sourcePath,
      `${mistaken.name} would keep its name, and be taken for a module of ${detected?.dialect.title}`,
      "The file mixes two dialects.",
    );
  }
}

function ambiguous(sourcePath: string, reason: string, note: string): DyloraError {
  return new DyloraError("E_INCOMPATIBLE", `convert ${sourcePath}: ${reason}`, {
    note: `Nothing was written. ${note}`,
  });
}

interface PartContext {
  readonly to: WrittenDialect;
  readonly draft: PartDraft;
  readonly isFirst: boolean;
  /** The record to follow. */
  readonly found: FoundRecord | null;
  /** The record to write. */
  readonly record: ConversionRecord | null;
}

export function partMetadata(
  source: Adapter,
  { modules, identity }: ConvertSource,
  { to, draft, isFirst, found, record }: PartContext,
): Pick<ConvertPart, "metadata" | "hashes"> {
  const own = metadataModules(modules);
  if (found !== null) {
    const recorded = found.record.parts.find(({ folder }) => folder === draft.folder);
    const part: PartRecord = recorded ?? { folder: draft.folder, metadata: null };
    const metadata = restoredMetadata(part, found, own, isFirst);
    if (!hasHashes(metadata)) return { metadata, hashes: "none" };
    const keepFor = part.dataSha256;
    return { metadata, hashes: keepFor === undefined ? "compute" : { keepFor } };
  }
  if (record === null) {
    const partSource = source.parts.find(({ folder }) => folder === draft.folder);
    const original = partSource?.file.header.metadata ?? (isFirst ? source.file.header.metadata : null);
    const metadata = rewrittenMetadata(original, to, own);
    return { metadata, hashes: hasHashes(metadata) ? "compute" : "none" };
  }
  // One file is enough to carry the metadata of them all.
  const metadata = isFirst ? convertedMetadata(source.metadata, to, own, identity.model) : { format: "pt" };
  const wantsHashes = to === "kohya" ? source.dialect !== "kohya" : hasHashes(source.metadata);
  return {
    metadata: isFirst ? { ...metadata, [RECORD_KEY]: JSON.stringify(record) } : metadata,
    hashes: wantsHashes ? "compute" : "none",
  };
}

/** The configuration beside a file of PEFT's. */
export function configOf(
  source: Adapter,
  to: WrittenDialect,
  { folder, modules }: PartDraft,
  restored: ConversionRecord | null,
): string | null {
  if (to !== "peft") return null;
  const own = metadataModules(modules);
  const recorded = restored?.parts.find((part) => part.folder === folder)?.config;
  const current = recorded ?? source.parts.find((part) => part.folder === folder)?.config?.text;
  return current === undefined ? buildPeftConfig(own) : updatePeftConfig(current, own);
}

export function finishPart(
  path: string,
  to: WrittenDialect,
  { folder, specs, contents }: PartDraft,
  metadata: Metadata | null,
  hashes: ConvertPart["hashes"],
  config: string | null,
): ConvertPart {
  const layout = layoutData(specs);
  const withHashes = hashes === "compute" ? { ...metadata, ...HASH_PLACEHOLDERS } : metadata;
  return {
    path: to === "peft" ? join(path, folder, PEFT_WEIGHTS) : path,
    sizeBytes: buildHeader(layout, withHashes).length + layout.dataBytes,
    layout,
    metadata,
    hashes,
    contents,
    config: config === null ? null : { path: join(path, folder, PEFT_CONFIG), text: config },
  };
}
