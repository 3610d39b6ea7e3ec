/** Is this file in order? Everything that can be checked without an image being made, as data for scripts. */
import { type Adapter, openAdapter } from "../../adapter/index.js";
import { DyloraError, type ErrorCode } from "../../errors.js";
import { readError } from "../../io/index.js";
import { exists, isFolder } from "../../models/checkpoint/paths.js";
import { SafetensorsFile } from "../../safetensors/index.js";
import { openModelWeights, weightFiles } from "../merge/model.js";
import { alphaProblems, metadataProblems } from "./alpha.js";
import { baseProblems } from "./base.js";
import {
  deadModuleProblems,
  foreignProblems,
  hashProblems,
  layoutProblems,
  nonFiniteProblems,
} from "./checks.js";
import { type ScanOptions, type ScanResult, scanTensors } from "./scan.js";

/** `error`: the file is damaged or cannot do what it says. `warning`: it works, and is probably not what was meant. */
export type Severity = "error" | "warning" | "note";

export interface VerifyProblem {
  readonly severity: Severity;
  /** Stable, for scripts: `not-finite`, `dead-modules`, … */
  readonly code: string;
  /** One sentence. */
  readonly message: string;
  /** Modules, tensors or metadata keys that it is about. */
  readonly subjects: readonly string[];
}

export interface VerifyOptions extends ScanOptions {
  /** A base model that the adapter must fit. */
  readonly basePath?: string;
}

export interface VerifyReport {
  readonly path: string;
  /** `tensors`: a safetensors file that is neither. Null where the file could not be read as one. */
  readonly kind: "adapter" | "checkpoint" | "tensors" | null;
  /** No errors. */
  readonly ok: boolean;
  readonly counts: Readonly<Record<Severity, number>>;
  /** Errors first. */
  readonly problems: readonly VerifyProblem[];
  readonly tensorCount: number;
  readonly moduleCount: number;
  /** Null where the data could not be read. */
  readonly dataSha256: string | null;
  readonly elapsedMs: number;
}

interface Findings {
  readonly kind: VerifyReport["kind"];
  readonly problems: readonly VerifyProblem[];
  readonly tensorCount: number;
  readonly moduleCount: number;
  readonly dataSha256: string | null;
}

/**
 * Checks a file: format, hashes, numbers, modules, alphas, metadata, and against a base model where one is given.
 *
 * What is wrong with the file is in the report; an error is thrown only where nothing could be checked.
 *
 * @throws {DyloraError} `E_NOT_FOUND`, `E_READ`, `E_INTERRUPTED`; what `openModelWeights` throws for the base model
 */
export async function verifyFile(path: string, options: VerifyOptions = {}): Promise<VerifyReport> {
  const startMs = performance.now();
  const found = await examine(path, options);
  const order: readonly Severity[] = ["error", "warning", "note"];
  const problems = order.flatMap((severity) =>
    found.problems.filter((problem) => problem.severity === severity),
  );
  const count = (severity: Severity) => problems.filter((problem) => problem.severity === severity).length;
  const counts = { error: count("error"), warning: count("warning"), note: count("note") };
  return { path, ...found, ok: counts.error === 0, counts, problems, elapsedMs: performance.now() - startMs };
}

async function examine(path: string, options: VerifyOptions): Promise<Findings> {
  const subject = await openSubject(path);
  if (subject instanceof DyloraError) {
    const problems = [asProblem(subject, "format")];
    return { kind: null, problems, tensorCount: 0, moduleCount: 0, dataSha256: null };
  }
  try {
    return await examineSubject(subject, options);
  } finally {
    await subject.adapter?.close();
    for (const { file } of subject.files) await file.close();
  }
}

/** What lies at a path: an adapter or a base model, each of one file or of several in a folder, or other tensors. */
interface Subject {
  readonly kind: NonNullable<VerifyReport["kind"]>;
  readonly adapter: Adapter | null;
  /** `prefix`: in front of the file's tensors in the adapter's. */
  readonly files: readonly { readonly file: SafetensorsFile; readonly prefix: string }[];
  /** Why the file is neither adapter nor base model. */
  readonly refusal: DyloraError | null;
}

async function examineSubject(
  { kind, adapter, files, refusal }: Subject,
  options: VerifyOptions,
): Promise<Findings> {
  const modules = adapter?.modules ?? [];
  const scans: ScanResult[] = [];
  const problems: VerifyProblem[] = refusal === null ? [] : [asProblem(refusal, "no-adapter")];
  const totalBytes = files.reduce((sum, { file }) => sum + file.sizeBytes, 0);
  let filesBytes = 0;
  for (const { file, prefix } of files) {
    const scan = await scanTensors(file, modules, prefix, {
      onProgress: ({ doneBytes }) => options.onProgress?.({ doneBytes: filesBytes + doneBytes, totalBytes }),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    filesBytes += file.sizeBytes;
    scans.push(scan);
    problems.push(...layoutProblems(file), ...hashProblems(file.header.metadata ?? {}, scan));
  }
  problems.push(...nonFiniteProblems(scans.flatMap(({ nonFinite }) => nonFinite)));
  if (adapter !== null) {
    problems.push(
      ...foreignProblems(adapter),
      ...deadModuleProblems(modules, new Map(scans.flatMap(({ liveComponents }) => [...liveComponents]))),
      ...alphaProblems(adapter),
      ...metadataProblems(adapter),
      ...(options.basePath === undefined ? [] : await baseProblems(adapter, options.basePath)),
    );
  } else if (kind === "checkpoint" && options.basePath !== undefined) {
    problems.push(NO_ADAPTER_FOR_BASE);
  }
  return {
    kind,
    problems,
    tensorCount: files.reduce((sum, { file }) => sum + file.header.tensors.size, 0),
    moduleCount: modules.length,
    dataSha256: scans.length === 1 ? scans[0]!.dataSha256 : null,
  };
}

/** @returns the error where the file is no safetensors file */
async function openSubject(path: string): Promise<Subject | DyloraError> {
  if (await isFolder(path)) return openFolder(path);
  if (!(await exists(path))) throw readError(path, Object.assign(new Error("missing"), { code: "ENOENT" }));
  const file = await SafetensorsFile.open(path).catch(asRefusal);
  if (file instanceof DyloraError) return file;
  const files = [{ file, prefix: "" }];
  try {
    const adapter = await openAdapter(path, { foreign: "keep" }).catch(asRefusal);
    if (!(adapter instanceof DyloraError)) return { kind: "adapter", adapter, files, refusal: null };
    const model = await openModelWeights(path).catch(asRefusal);
    const isModel = !(model instanceof DyloraError);
    return {
      kind: isModel ? "checkpoint" : "tensors",
      adapter: null,
      files,
      refusal: isModel ? null : adapter,
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** An adapter's folder (PEFT, diffusers) or a model's. */
async function openFolder(path: string): Promise<Subject | DyloraError> {
  const adapter = await openAdapter(path, { foreign: "keep" }).catch(asRefusal);
  if (!(adapter instanceof DyloraError)) {
    const files = adapter.parts.map(({ folder, file }) => ({
      file,
      prefix: folder === "" ? "" : `${folder}/`,
    }));
    return { kind: "adapter", adapter, files, refusal: null };
  }
  const model = await openModelWeights(path).catch(asRefusal);
  if (model instanceof DyloraError) return adapter.code === "E_NOT_FOUND" ? model : adapter;
  const files: Subject["files"][number][] = [];
  try {
    for (const weights of weightFiles(model))
      files.push({ file: await SafetensorsFile.open(weights), prefix: "" });
    return { kind: "checkpoint", adapter: null, files, refusal: null };
  } catch (error) {
    for (const { file } of files) await file.close();
    throw error;
  }
}

const NO_ADAPTER_FOR_BASE: VerifyProblem = {
  severity: "error",
  code: "no-adapter",
  message: "The file is a base model: there is nothing to compare with another one.",
  subjects: [],
};

/** What an error says about the file that is checked; other errors go on. */
function asRefusal(error: unknown): DyloraError {
  // `E_NOT_FOUND` for what should lie beside or inside of it: whether it is there at all was seen before.
  const isAboutIt = error instanceof DyloraError && REFUSALS.has(error.code);
  if (isAboutIt) return error;
  throw error;
}

const REFUSALS: ReadonlySet<ErrorCode> = new Set(["E_FORMAT", "E_INCOMPATIBLE", "E_NOT_FOUND"]);

function asProblem(error: DyloraError, code: string): VerifyProblem {
  return { severity: "error", code, message: `${error.message}.`, subjects: [] };
}
