/** Everything about a conversion that can be known, checked and shown before a byte is written. */
import type { Adapter, WrittenDialect } from "../../adapter/index.js";
import { decodeScalar } from "../../adapter/index.js";
import { DyloraError } from "../../errors.js";
import { buildRecord, type EncodedPair, encodeAll, usualOptions } from "./encode.js";
import { checkHashes } from "./hashes.js";
import {
  type ConvertPart,
  checkDrafts,
  configOf,
  draftParts,
  finishPart,
  folderAssignment,
  partMetadata,
  placeKept,
} from "./parts.js";
import { type ConversionRecord, findRecord, hasBrokenRecord, RECORD_KEY } from "./record.js";
import { type ConvertSource, sortSource, type UnmappedItem } from "./source.js";

export interface ConvertOptions {
  readonly to: WrittenDialect;
  /** The file to write; for PEFT the folder. */
  readonly path: string;
  /** Carry over, under their own names, what the other dialect has no names for. Default false: it is an error. */
  readonly keepUnknown?: boolean;
  readonly signal?: AbortSignal;
}

export interface ConvertPlan {
  readonly source: Adapter;
  readonly to: WrittenDialect;
  readonly path: string;
  readonly parts: readonly ConvertPart[];
  readonly mappedModules: number;
  readonly unmapped: readonly UnmappedItem[];
  readonly keepUnknown: boolean;
  /** The source was converted from this dialect before, and gets back the form that it had. */
  readonly isReturn: boolean;
  /** Sentences. */
  readonly notes: readonly string[];
}

/**
 * Plans a conversion. What has no name in the other dialect is listed, and an error only when the plan is carried out.
 *
 * Only the header is read, and all data where the metadata states their hash: a wrong one is to come back as it was.
 *
 * @param source - opened with `foreign: "keep"`
 * @throws {DyloraError} `E_INCOMPATIBLE` where the result would be ambiguous
 */
export async function planConvert(source: Adapter, options: ConvertOptions): Promise<ConvertPlan> {
  const { to, path, keepUnknown = false } = options;
  const from = source.dialect as WrittenDialect;
  const sorted = sortSource(source);
  if (sorted.modules.length === 0) throw nothingToConvert(source.path, sorted.unmapped);
  const found = from === to ? null : findRecord(source.metadata, to);
  const restored = found?.record ?? null;
  const usual = usualOptions(sorted);
  const encoded = encodeAll(to, sorted.modules, usual, restored);
  const folderOf = folderAssignment(to, sorted, restored);
  const hasRecord = from !== to && restored === null;
  const hashes = hasRecord ? await checkHashes(source, options.signal) : [];
  const record = hasRecord ? buildRecord(source, sorted, encoded, to, usual, hashes) : null;

  const unknown = keepUnknown ? sorted.unmapped.flatMap(({ tensors }) => tensors) : [];
  const kept = placeKept(source, to, unknown, restored);
  const drafts = draftParts(folderOf, encoded, kept);
  checkDrafts(source.path, to, drafts, kept, restored !== null || from === to);
  const parts = drafts.map((draft, index) => {
    const isFirst = index === 0;
    const { metadata, hashes } = partMetadata(source, sorted, { to, draft, isFirst, found, record });
    return finishPart(path, to, draft, metadata, hashes, configOf(source, to, draft, restored));
  });
  return {
    source,
    to,
    path,
    parts,
    mappedModules: sorted.modules.length,
    unmapped: sorted.unmapped,
    keepUnknown,
    isReturn: restored !== null,
    notes: planNotes(source, sorted, to, encoded, restored),
  };
}

function nothingToConvert(path: string, unmapped: readonly UnmappedItem[]): DyloraError {
  const [first] = unmapped;
  const example = first === undefined ? "" : ` (${first.name}: ${first.reason})`;
  return new DyloraError(
    "E_INCOMPATIBLE",
    `convert ${path}: it has no module that another dialect could name${example}`,
    {
      note: "Nothing was written. LoRA modules of Stable Diffusion 1.x, 2.x and SDXL can be converted.",
    },
  );
}

function planNotes(
  source: Adapter,
  { modules, identity }: ConvertSource,
  to: WrittenDialect,
  encoded: readonly EncodedPair[],
  restored: ConversionRecord | null,
): string[] {
  const notes: string[] = [];
  if (hasBrokenRecord(source.metadata)) {
    notes.push(
      `The record of an earlier conversion (${RECORD_KEY} in the metadata) cannot be read, and is not followed.`,
    );
  }
  if (to === "kohya") {
    const rounded = encoded.filter(
      ({ source: { alpha }, encoded: tensors }) =>
        tensors.alpha !== null && decodeScalar(tensors.alpha.bytes, tensors.alpha.dtype) !== alpha,
    ).length;
    if (rounded > 0) notes.push(`The alphas of ${rounded} modules are rounded to the nearest float32.`);
    const hasTwoNames = modules.some(({ known }) => known.sdxlName !== null && known.component === "unet");
    if (identity.family === null && hasTwoNames && restored === null) {
      notes.push(
        "Nothing tells whether the file is for SDXL: the U-Net's modules get diffusers' names, which SDXL's loaders read too.",
      );
    }
  }
  if (to === "diffusers" && modules.some(({ alpha, module }) => alpha !== module.rank)) {
    notes.push(
      "Alphas are in the metadata (lora_adapter_metadata): versions of diffusers that do not read it load the adapter as if alpha were the rank.",
    );
  }
  return notes;
}
