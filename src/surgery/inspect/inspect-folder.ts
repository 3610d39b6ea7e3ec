/** What the adapters in a folder are, from their headers alone. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import pLimit from "p-limit";
import type { BaseModel, DialectId } from "../../adapter/index.js";
import { DyloraError, type ErrorCode } from "../../errors.js";
import { readError, throwIfAborted } from "../../io/index.js";
import type { Dtype } from "../../safetensors/index.js";
import { type AdapterReport, inspectAdapter, type Range } from "./inspect.js";

/** One file in a few words. */
export interface AdapterSummary {
  readonly path: string;
  readonly fileSizeBytes: number;
  readonly dialect: DialectId;
  /** By its shapes, or else by its metadata; null where neither says. */
  readonly baseModel: BaseModel | null;
  readonly isDylora: boolean;
  /** Modules that are a plain LoRA, and others. */
  readonly modules: number;
  readonly foreignModules: number;
  /** Null where there are no modules. */
  readonly ranks: Range | null;
  readonly alphas: Range | null;
  /** Types of the tensors, the most frequent first. */
  readonly dtypes: readonly Dtype[];
}

/** A file that is no adapter, or cannot be read. */
export interface UnreadableFile {
  readonly path: string;
  readonly error: { readonly code: ErrorCode; readonly message: string };
}

export interface FolderReport {
  readonly path: string;
  /** Every `.safetensors` file in the folder itself, by name. */
  readonly files: readonly (AdapterSummary | UnreadableFile)[];
}

/** Headers that are read at the same time: enough for a disk or a network to be busy. */
const CONCURRENT_FILES = 8;

/**
 * Reads the headers of all `.safetensors` files in a folder, not in folders below it. A file that cannot be read is in the
 * list, with the reason.
 *
 * @throws {DyloraError} `E_NOT_FOUND`, `E_READ` for the folder; `E_INTERRUPTED`
 */
export async function inspectFolder(
  path: string,
  options: { readonly signal?: AbortSignal } = {},
): Promise<FolderReport> {
  const names = await adapterFileNames(path);
  const limit = pLimit(CONCURRENT_FILES);
  const files = await Promise.all(
    names.map((name) =>
      limit(async () => {
        throwIfAborted(options.signal, `inspect ${path}`);
        return summarise(join(path, name));
      }),
    ),
  );
  return { path, files };
}

async function adapterFileNames(path: string): Promise<string[]> {
  try {
    const entries = await readdir(path, { withFileTypes: true });
    return entries
      .filter((entry) => !entry.isDirectory() && /^[^.].*\.safetensors$/i.test(entry.name))
      .map(({ name }) => name)
      .sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  } catch (cause) {
    throw readError(path, cause);
  }
}

async function summarise(path: string): Promise<AdapterSummary | UnreadableFile> {
  try {
    return summary(await inspectAdapter(path));
  } catch (error) {
    if (!(error instanceof DyloraError)) throw error;
    return { path, error: { code: error.code, message: error.message } };
  }
}

function summary(report: AdapterReport): AdapterSummary {
  const { groups, baseModel } = report;
  const dtypes = Object.entries(report.dtypes).sort(([, a], [, b]) => b - a);
  return {
    path: report.path,
    fileSizeBytes: report.fileSizeBytes,
    dialect: report.dialect,
    baseModel: baseModel.fromShapes ?? baseModel.fromMetadata,
    isDylora: report.dylora.isDylora,
    modules: report.modules.length,
    foreignModules: report.foreignModules.length,
    ranks: union(groups.map(({ ranks }) => ranks)),
    alphas: union(groups.map(({ alphas }) => alphas)),
    dtypes: dtypes.map(([dtype]) => dtype as Dtype),
  };
}

function union(ranges: readonly Range[]): Range | null {
  if (ranges.length === 0) return null;
  return { min: Math.min(...ranges.map(({ min }) => min)), max: Math.max(...ranges.map(({ max }) => max)) };
}
