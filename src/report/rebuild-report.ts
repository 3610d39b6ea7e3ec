/** Pages out of what lies on the disk: the folder of a run, or the JSON document of a comparison. */

import { readFile, stat } from "node:fs/promises";
import { basename, dirname, extname, join } from "node:path";
import { DyloraError } from "../errors.js";
import type { BenchReport } from "../evaluation/bench-types.js";
import { readError } from "../io/index.js";
import { metricsPath } from "../training/run-files.js";
import { reportBench } from "./bench/report-bench.js";
import { PictureStore } from "./pictures/run-pictures.js";
import { readRunLog } from "./training/run-log.js";
import { renderRun } from "./training/run-report.js";
import { writeReport } from "./write-report.js";

export interface RebuildOptions {
  /** Null: beside what it was made from. */
  readonly out: string | null;
  readonly signal?: AbortSignal;
}

export interface RebuiltReport {
  readonly kind: "bench" | "training";
  readonly path: string;
  readonly sizeBytes: number;
}

/**
 * Writes the page of a run (its folder, or its `metrics.jsonl`) or of a comparison (what `bench --json` printed).
 *
 * @throws {DyloraError} `E_NOT_FOUND`, `E_READ`, `E_FORMAT`, `E_EXISTS`, `E_WRITE`
 */
export async function rebuildReport(source: string, { out, signal }: RebuildOptions): Promise<RebuiltReport> {
  const stats = await stat(source).catch((cause: unknown) => {
    throw readError(source, cause);
  });
  const isRun = stats.isDirectory() || extname(source) === ".jsonl";
  const path = isRun
    ? await rebuildRun(stats.isDirectory() ? metricsPath(source) : source, out)
    : await rebuildBench(source, out, signal);
  return { kind: isRun ? "training" : "bench", path, sizeBytes: (await stat(path)).size };
}

async function rebuildRun(log: string, out: string | null): Promise<string> {
  const run = await readRunLog(log);
  const { config, totalSteps } = run.starts.at(-1)!;
  const isFinished = (run.steps.at(-1)?.step ?? 0) >= totalSteps;
  const path = out ?? join(dirname(log), `${config.outputName}.html`);
  await writeReport(
    path,
    await renderRun(run, isFinished ? "finished" : "stopped", new PictureStore(), null),
  );
  return path;
}

async function rebuildBench(source: string, out: string | null, signal?: AbortSignal): Promise<string> {
  const text = await readFile(source, "utf8").catch((cause: unknown) => {
    throw readError(source, cause);
  });
  const report = benchReportOf(text, source);
  const path = out ?? join(dirname(source), `${basename(source, extname(source))}.html`);
  await reportBench(path, report, { pictures: null, ...(signal && { signal }) });
  return path;
}

/** Only what `bench --json` prints has all of these. */
const BENCH_KEYS = ["settings", "extent", "bands", "images", "base", "files", "recommendation"];

function benchReportOf(text: string, source: string): BenchReport {
  const note = "Give the folder of a run, its metrics.jsonl, or what `dylora bench --json` printed.";
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (cause) {
    throw new DyloraError("E_FORMAT", `report ${source}: not JSON`, { note, cause });
  }
  const missing = BENCH_KEYS.filter(
    (key) => (document as Record<string, unknown> | null)?.[key] === undefined,
  );
  if (missing.length > 0) {
    throw new DyloraError(
      "E_FORMAT",
      `report ${source}: no rank comparison, it has no ${missing.join(", ")}`,
      {
        note,
      },
    );
  }
  return document as BenchReport;
}
