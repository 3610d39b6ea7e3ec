/** Carries out a conversion: bytes are copied, names and metadata written anew. */
import { mkdir, open } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import type { Adapter, WrittenDialect } from "../../adapter/index.js";
import { DyloraError } from "../../errors.js";
import { AtomicFolder, throwIfAborted, writeError, writeFileAtomic } from "../../io/index.js";
import {
  buildHeader,
  layoutData,
  type SafetensorsFile,
  type TensorSource,
  type WriteResult,
  writeSafetensors,
} from "../../safetensors/index.js";
import { checkPeftTarget } from "../common/peft-target.js";
import { checkOutput } from "../merge/output.js";
import { hashData } from "./hashes.js";
import type { ConvertPart } from "./parts.js";
import type { ConvertPlan } from "./plan.js";
import type { UnmappedItem } from "./source.js";

export interface RunConvertOptions {
  /** Replace an existing file, or an existing folder that holds nothing but an adapter of PEFT's. Default false. */
  readonly overwrite?: boolean;
  /** Called after each tensor. */
  readonly onProgress?: (progress: { readonly doneBytes: number; readonly totalBytes: number }) => void;
  readonly signal?: AbortSignal;
}

export interface ConvertReport {
  readonly source: { readonly path: string; readonly dialect: WrittenDialect };
  readonly to: WrittenDialect;
  /** As it was given. */
  readonly path: string;
  readonly mappedModules: number;
  /** Carried over under their own names. */
  readonly unmapped: readonly Pick<UnmappedItem, "name" | "reason">[];
  readonly isReturn: boolean;
  readonly notes: readonly string[];
  readonly outputs: readonly {
    readonly path: string;
    readonly sizeBytes: number;
    readonly dataSha256: string;
  }[];
  readonly elapsedMs: number;
}

/**
 * Converts an adapter as planned. The output appears, whole and on the disk, at the end; a folder of PEFT's in one step.
 *
 * Numbers stay as they are, byte for byte, a few megabytes at a time in memory.
 *
 * @throws {DyloraError} `E_INCOMPATIBLE` for names that the other dialect does not have, unless they are kept;
 *   `E_EXISTS`, `E_WRITE`, `E_READ`, `E_INTERRUPTED`
 */
export async function convert(plan: ConvertPlan, options: RunConvertOptions = {}): Promise<ConvertReport> {
  const startMs = performance.now();
  const { source, to, path, parts } = plan;
  if (plan.unmapped.length > 0 && !plan.keepUnknown) throw unmappedError(plan);
  await checkTarget(plan, options.overwrite ?? false);
  throwIfAborted(options.signal, `convert ${source.path}`);
  const state = await examineSource(plan);
  const outputs: WriteResult[] = [];
  if (to === "peft") {
    const folder = await AtomicFolder.create(path, { overwrite: options.overwrite ?? false });
    try {
      await makeFolders(folder.tempPath, path, parts);
      for (const part of parts) {
        const result = await writePart(plan, part, moved(part.path, path, folder.tempPath), state, options);
        outputs.push({ ...result, path: part.path });
        if (part.config !== null) {
          await writeFileAtomic(moved(part.config.path, path, folder.tempPath), part.config.text);
        }
      }
      throwIfAborted(options.signal, `convert ${source.path}`);
      await folder.publish();
    } catch (error) {
      await folder.discard();
      throw error;
    }
  } else {
    for (const part of parts) outputs.push(await writePart(plan, part, part.path, state, options));
  }
  return {
    source: { path: source.path, dialect: source.dialect as WrittenDialect },
    to,
    path,
    mappedModules: plan.mappedModules,
    unmapped: plan.unmapped.map(({ name, reason }) => ({ name, reason })),
    isReturn: plan.isReturn,
    notes: [...plan.notes, ...state.notes],
    outputs: outputs.map(({ path: written, sizeBytes, dataSha256 }) => ({
      path: written,
      sizeBytes,
      dataSha256,
    })),
    elapsedMs: performance.now() - startMs,
  };
}

/** What only reading the source shows. */
interface SourceState {
  /** Files that keep wrong hashes, since their data are still what they were. */
  readonly keepHashes: ReadonlySet<ConvertPart>;
  readonly notes: readonly string[];
}

async function examineSource({ source, to, parts, isReturn }: ConvertPlan): Promise<SourceState> {
  const notes: string[] = [];
  const keepHashes = new Set<ConvertPart>();
  for (const part of parts) {
    if (typeof part.hashes === "string") continue;
    const dataSha256 = await hashData(part.layout, (name) => contentOf(source, part, name));
    if (dataSha256 === part.hashes.keepFor) keepHashes.add(part);
    else notes.push("The file was changed after it was converted: its hashes are computed anew.");
  }
  if (!isReturn && source.dialect !== to) {
    const canonical = await Promise.all(source.parts.map(({ file }) => isCanonical(file)));
    if (canonical.includes(false)) {
      notes.push(
        "The file's header is not in the form that safetensors writes: converting back gives the same tensors and metadata, with the header in that form.",
      );
    }
  }
  return { keepHashes, notes };
}

/** Whether writing the file's tensors and metadata again gives the same header. */
async function isCanonical({ path, header }: SafetensorsFile): Promise<boolean> {
  const expected = buildHeader(layoutData([...header.tensors.values()]), header.metadata);
  if (expected.length !== header.dataStartBytes) return false;
  await using handle = await open(path, "r");
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(expected.length), 0, expected.length, 0);
  return bytesRead === expected.length && buffer.equals(expected);
}

async function writePart(
  { source, parts }: ConvertPlan,
  part: ConvertPart,
  targetPath: string,
  { keepHashes }: SourceState,
  options: RunConvertOptions,
): Promise<WriteResult> {
  const doneBefore = parts
    .slice(0, parts.indexOf(part))
    .reduce((sum, { layout }) => sum + layout.dataBytes, 0);
  const totalBytes = parts.reduce((sum, { layout }) => sum + layout.dataBytes, 0);
  const sources = part.layout.tensors.map(
    ({ name, dtype, shape }): TensorSource => ({
      name,
      dtype,
      shape,
      data: () => contentOf(source, part, name),
    }),
  );
  const keepsHashes = part.hashes === "none" || keepHashes.has(part);
  return writeSafetensors(targetPath, sources, {
    metadata: part.metadata,
    hashes: !keepsHashes,
    overwrite: options.overwrite ?? false,
    onProgress: ({ doneBytes }) => options.onProgress?.({ doneBytes: doneBefore + doneBytes, totalBytes }),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
}

function contentOf(
  source: Adapter,
  { contents }: ConvertPart,
  name: string,
): Uint8Array | AsyncIterable<Uint8Array> {
  const content = contents.get(name)!;
  return typeof content === "string" ? source.file.stream(content) : content;
}

async function makeFolders(tempPath: string, path: string, parts: readonly ConvertPart[]): Promise<void> {
  for (const part of parts) {
    const folder = dirname(moved(part.path, path, tempPath));
    await mkdir(folder, { recursive: true }).catch((cause: unknown) => {
      throw writeError(path, cause);
    });
  }
}

/** The place of a file of the output while the folder has its temporary name. */
function moved(filePath: string, folderPath: string, tempPath: string): string {
  return join(tempPath, relative(folderPath, filePath));
}

async function checkTarget({ source, to, path }: ConvertPlan, overwrite: boolean): Promise<void> {
  const inputs = source.parts.flatMap(({ file, config }) => [
    file.path,
    ...(config === null ? [] : [config.path]),
  ]);
  const check = to === "peft" ? checkPeftTarget : checkOutput;
  await check(`convert ${source.path}`, path, inputs, overwrite);
}

/** How many names an error spells out. */
const NAMED_ITEMS = 20;

function unmappedError({ source, to, unmapped, mappedModules }: ConvertPlan): DyloraError {
  const named = unmapped.slice(0, NAMED_ITEMS).map(({ name, reason }) => `${name} (${reason})`);
  const more = unmapped.length > NAMED_ITEMS ? `; and ${unmapped.length - NAMED_ITEMS} more` : "";
  return new DyloraError(
    "E_INCOMPATIBLE",
    `convert ${source.path}: ${unmapped.length} of ${unmapped.length + mappedModules} modules have no name in ${to}'s dialect: ${named.join("; ")}${more}`,
    {
      note: "Nothing was written. --keep-unknown carries them over under the names they have; --dry-run --json lists them all.",
    },
  );
}
