/** Is this file in order? Everything that can be checked without an image being made, as data for scripts. */
import { type Adapter, openAdapter } from "../adapter/index.js";
import { DyloraError } from "../errors.js";
import { SafetensorsFile } from "../safetensors/index.js";
import { openModelWeights } from "./merge-model.js";
import { alphaProblems, metadataProblems } from "./verify-alpha.js";
import { baseProblems } from "./verify-base.js";
import {
  deadModuleProblems,
  foreignProblems,
  hashProblems,
  layoutProblems,
  nonFiniteProblems,
} from "./verify-checks.js";
import { type ScanOptions, scanTensors } from "./verify-scan.js";

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
  let file: SafetensorsFile;
  try {
    file = await SafetensorsFile.open(path);
  } catch (error) {
    const problems = [asProblem(error, "format")];
    return { kind: null, problems, tensorCount: 0, moduleCount: 0, dataSha256: null };
  }
  try {
    return await examineTensors(file, options);
  } finally {
    await file.close();
  }
}

async function examineTensors(file: SafetensorsFile, options: VerifyOptions): Promise<Findings> {
  const opened = await openAsAdapter(file.path);
  const adapter = opened instanceof DyloraError ? null : opened;
  try {
    const scan = await scanTensors(file, adapter?.modules ?? [], options);
    const problems: VerifyProblem[] = [
      ...layoutProblems(file),
      ...hashProblems(file.header.metadata ?? {}, scan),
      ...nonFiniteProblems(scan.nonFinite),
    ];
    let kind: VerifyReport["kind"] = "adapter";
    if (opened instanceof DyloraError) {
      kind = await otherKind(file.path);
      if (kind === "tensors") problems.push(asProblem(opened, "no-adapter"));
      else if (options.basePath !== undefined) problems.push(NO_ADAPTER_FOR_BASE);
    } else {
      problems.push(
        ...foreignProblems(opened),
        ...deadModuleProblems(opened.modules, scan.liveComponents),
        ...alphaProblems(opened.modules),
        ...metadataProblems(opened),
        ...(options.basePath === undefined ? [] : await baseProblems(opened, options.basePath)),
      );
    }
    return {
      kind,
      problems,
      tensorCount: file.header.tensors.size,
      moduleCount: adapter?.modules.length ?? 0,
      dataSha256: scan.dataSha256,
    };
  } finally {
    await adapter?.close();
  }
}

const NO_ADAPTER_FOR_BASE: VerifyProblem = {
  severity: "error",
  code: "no-adapter",
  message: "The file is a base model: there is nothing to compare with another one.",
  subjects: [],
};

/** An adapter, or why the file is none. */
async function openAsAdapter(path: string): Promise<Adapter | DyloraError> {
  try {
    return await openAdapter(path, { foreign: "keep" });
  } catch (error) {
    if (isAboutTheFile(error)) return error;
    throw error;
  }
}

async function otherKind(path: string): Promise<"checkpoint" | "tensors"> {
  try {
    await openModelWeights(path);
    return "checkpoint";
  } catch (error) {
    if (isAboutTheFile(error)) return "tensors";
    throw error;
  }
}

function isAboutTheFile(error: unknown): error is DyloraError {
  return error instanceof DyloraError && (error.code === "E_FORMAT" || error.code === "E_INCOMPATIBLE");
}

function asProblem(error: unknown, code: string): VerifyProblem {
  if (!isAboutTheFile(error)) throw error;
  return { severity: "error", code, message: `${error.message}.`, subjects: [] };
}
