/** Changes a file's metadata: the header is written anew, the tensors' bytes are copied as they are, in the order they are in. */
import { chmod, realpath, stat } from "node:fs/promises";
import { DyloraError } from "../../errors.js";
import { throwIfAborted } from "../../io/index.js";
import {
  type DataLayout,
  LEGACY_HASH_KEY,
  MODEL_HASH_KEY,
  SafetensorsFile,
  type SafetensorsHeader,
  SafetensorsWriter,
} from "../../safetensors/index.js";
import { checkOutput } from "../merge/output.js";

export interface MetadataEdit {
  /** New values by key; existing keys keep their place. */
  readonly set?: Readonly<Record<string, string>>;
  /** Keys; `*` stands for any characters: `ss_dataset_*`. Applied before `set`. */
  readonly remove?: readonly string[];
}

/** One key that an edit changes; null: not there. */
export interface MetadataChange {
  readonly key: string;
  readonly before: string | null;
  readonly after: string | null;
}

export interface EditOptions {
  /** Where to write. The file itself: it is replaced in one step, once the new one is whole. */
  readonly path: string;
  /** Replace an existing file other than the one that is edited. Default false. */
  readonly overwrite?: boolean;
  readonly onProgress?: (progress: { readonly doneBytes: number; readonly totalBytes: number }) => void;
  readonly signal?: AbortSignal;
}

export interface EditReport {
  readonly path: string;
  readonly sizeBytes: number;
  /** SHA-256 of the tensors' data, which an edit does not change. */
  readonly dataSha256: string;
  /** Whether the file's `sshs_model_hash` was right; null where it had none. A wrong one is put right. */
  readonly hashMatched: boolean | null;
  /** The hashes that changed included. */
  readonly changes: readonly MetadataChange[];
  readonly elapsedMs: number;
}

/** Keys that are computed from the file, and that nobody may set. */
const COMPUTED_KEYS: ReadonlySet<string> = new Set([MODEL_HASH_KEY, LEGACY_HASH_KEY]);

/**
 * The metadata after an edit.
 *
 * @throws {DyloraError} `E_USAGE` for a computed key, and for a pattern to remove that fits no key
 */
export function editedMetadata(
  metadata: Readonly<Record<string, string>>,
  { set = {}, remove = [] }: MetadataEdit,
  path: string,
): Record<string, string> {
  for (const key of Object.keys(set)) {
    if (!COMPUTED_KEYS.has(key) && key !== "") continue;
    throw new DyloraError(
      "E_USAGE",
      `edit ${path}: ${key === "" ? "a key is empty" : `${key} cannot be set`}`,
      {
        note: key === "" ? "Write KEY=VALUE." : "It is computed from the file, and kept right by every edit.",
      },
    );
  }
  const edited = { ...metadata };
  for (const pattern of remove) {
    const fits = patternTest(pattern);
    const keys = Object.keys(metadata).filter(fits);
    if (keys.length === 0) {
      throw new DyloraError("E_USAGE", `edit ${path}: no metadata key fits ${JSON.stringify(pattern)}`, {
        note: "Nothing was changed. `dylora edit FILE --show` lists the keys.",
      });
    }
    for (const key of keys) delete edited[key];
  }
  return { ...edited, ...set };
}

/** What an edit changes, removed keys first, in the order of the file. */
export function metadataChanges(
  before: Readonly<Record<string, string>>,
  after: Readonly<Record<string, string>>,
): MetadataChange[] {
  const keys = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...keys].flatMap((key): MetadataChange[] => {
    const change = { key, before: entryOf(before, key), after: entryOf(after, key) };
    return change.before === change.after ? [] : [change];
  });
}

/**
 * Writes a file with edited metadata.
 *
 * `sshs_model_hash` covers the data and stays; `sshs_legacy_hash` depends on the size of the header and is computed anew. A
 * file that has neither gets neither.
 *
 * @throws {DyloraError} `E_USAGE` as `editedMetadata`; `E_EXISTS`, `E_WRITE`, `E_READ`, `E_FORMAT`, `E_INTERRUPTED`;
 *   `E_INCOMPATIBLE` for metadata that no header can hold
 */
export async function editMetadata(
  sourcePath: string,
  edit: MetadataEdit,
  options: EditOptions,
): Promise<EditReport> {
  const startMs = performance.now();
  const file = await SafetensorsFile.open(sourcePath);
  try {
    const before = file.header.metadata ?? {};
    const after = editedMetadata(before, edit, sourcePath);
    const isInPlace = await isSameFile(sourcePath, options.path);
    const mode = isInPlace ? (await stat(sourcePath)).mode : null;
    if (!isInPlace) await checkOutput("edit", options.path, [], options.overwrite ?? false);
    const withHashes = [...COMPUTED_KEYS].some((key) => Object.hasOwn(after, key));
    const writer = await SafetensorsWriter.create(options.path, layoutOf(file.header), {
      metadata: Object.keys(after).length === 0 ? null : after,
      overwrite: isInPlace || (options.overwrite ?? false),
      hashes: withHashes,
    });
    try {
      await copyData(file, writer, options);
      const { sizeBytes, dataSha256 } = await writer.finish();
      // Windows does not replace a file that is open.
      await file.close();
      await writer.publish();
      if (mode !== null) await chmod(options.path, mode).catch(() => undefined);
      const written = await SafetensorsFile.open(options.path);
      await written.close();
      const stated = before[MODEL_HASH_KEY];
      return {
        path: options.path,
        sizeBytes,
        dataSha256,
        hashMatched: stated === undefined ? null : stated === dataSha256,
        changes: metadataChanges(before, written.header.metadata ?? {}),
        elapsedMs: performance.now() - startMs,
      };
    } catch (error) {
      await writer.discard();
      throw error;
    }
  } finally {
    await file.close();
  }
}

async function copyData(
  file: SafetensorsFile,
  writer: SafetensorsWriter,
  options: EditOptions,
): Promise<void> {
  const totalBytes = file.sizeBytes - file.header.dataStartBytes;
  let doneBytes = 0;
  for (const name of file.header.tensors.keys()) {
    for await (const bytes of file.stream(name)) {
      throwIfAborted(options.signal, `edit ${file.path}`);
      await writer.write(bytes);
      doneBytes += bytes.length;
      options.onProgress?.({ doneBytes, totalBytes });
    }
  }
}

/** The layout that the file has, canonical or not. */
export function layoutOf({ tensors, dataStartBytes }: SafetensorsHeader): DataLayout {
  const placed = [...tensors.values()].map((tensor) => ({
    ...tensor,
    offsetBytes: tensor.offsetBytes - dataStartBytes,
  }));
  const json = placed.map(({ name, dtype, shape, offsetBytes, sizeBytes }) => {
    const offsets = `[${offsetBytes},${offsetBytes + sizeBytes}]`;
    return `${JSON.stringify(name)}:{"dtype":"${dtype}","shape":[${shape.join(",")}],"data_offsets":${offsets}}`;
  });
  const last = placed.at(-1);
  return {
    tensors: placed,
    dataBytes: last === undefined ? 0 : last.offsetBytes + last.sizeBytes,
    json: json.join(","),
  };
}

function patternTest(pattern: string): (key: string) => boolean {
  const parts = pattern.split("*").map((part) => part.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"));
  const expression = new RegExp(`^${parts.join(".*")}$`, "s");
  return (key) => expression.test(key);
}

function entryOf(metadata: Readonly<Record<string, string>>, key: string): string | null {
  return Object.hasOwn(metadata, key) ? metadata[key]! : null;
}

async function isSameFile(a: string, b: string): Promise<boolean> {
  const [first, second] = await Promise.all([realpath(a), realpath(b).catch(() => null)]);
  return first === second;
}
