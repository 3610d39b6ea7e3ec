/** Keeps the page of a run up to date while it runs, at next to no cost. */

import { stat } from "node:fs/promises";
import { join } from "node:path";
import type { TrainEvent } from "../../training/events.js";
import { metricsPath } from "../../training/run-files.js";
import { PictureStore, runPictureGrid } from "../pictures/run-pictures.js";
import { writeReport } from "../write-report.js";
import { type RunLog, readRunLog } from "./run-log.js";
import { type RunStatus, trainingPage } from "./training-page.js";

/** Nobody looks more often. */
const LEAST_INTERVAL_MS = 20_000;
/** Writing takes at most one part in so many of the time: half a percent. */
const COST_DIVISOR = 200;

export interface WrittenReport {
  readonly path: string;
  readonly sizeBytes: number;
}

export interface RunReportOptions {
  /** Told once: the page cannot be written, and the run goes on without it. */
  readonly onProblem: (error: unknown) => void;
  readonly now?: () => number;
  /** What it took to load this and the charts; the first page waits as long as after a page that took so long. Default 0. */
  readonly spentMs?: number;
}

/**
 * Follows the events of a run and writes `<output_dir>/<output_name>.html` out of its `metrics.jsonl`, so that the page of a
 * resumed run shows all of it. The first page is there 20 seconds after the start, or 200 times as long as loading the charts
 * took; the next ones follow no sooner than 200 times as long as the last one took. Only the last page is always written.
 */
export class RunReport {
  readonly #options: RunReportOptions;
  readonly #now: () => number;
  readonly #store = new PictureStore();
  #outputDir: string | null = null;
  #dueAtMs = 0;
  #intervalMs = LEAST_INTERVAL_MS;
  #writing: Promise<void> | null = null;
  #status: RunStatus = "stopped";
  #failed = false;
  #written: WrittenReport | null = null;

  constructor(options: RunReportOptions) {
    this.#options = options;
    this.#now = options.now ?? performance.now.bind(performance);
  }

  /** Takes note of an event; a page that is due is written while the run goes on. */
  event(event: TrainEvent): void {
    if (event.type === "start" && event.report !== "none") {
      this.#outputDir = event.outputDir;
      this.#dueAtMs = this.#now() + interval(this.#options.spentMs ?? 0);
    }
    if (event.type === "end") this.#status = "finished";
    if (event.type !== "step" || this.#failed || this.#writing !== null || this.#now() < this.#dueAtMs)
      return;
    this.#writing = this.#write("running").finally(() => {
      this.#writing = null;
    });
  }

  /** Writes the last page. @returns null where there is none: switched off, nothing started, or it could not be written */
  async finish(): Promise<WrittenReport | null> {
    await this.#writing;
    if (this.#outputDir !== null && !this.#failed) await this.#write(this.#status);
    return this.#written;
  }

  async #write(status: RunStatus): Promise<void> {
    const startedAt = this.#now();
    try {
      const log = await readRunLog(metricsPath(this.#outputDir!));
      const { config } = log.starts.at(-1)!;
      const path = join(this.#outputDir!, `${config.outputName}.html`);
      await writeReport(
        path,
        await renderRun(log, status, this.#store, status === "running" ? this.#intervalMs : null),
      );
      this.#written = { path, sizeBytes: (await stat(path)).size };
    } catch (error) {
      this.#failed = true;
      this.#written = null;
      this.#options.onProblem(error);
    } finally {
      const now = this.#now();
      this.#intervalMs = interval(now - startedAt);
      this.#dueAtMs = now + this.#intervalMs;
    }
  }
}

/** Until the next page, after something that took so long. */
function interval(costMs: number): number {
  return Math.max(LEAST_INTERVAL_MS, COST_DIVISOR * costMs);
}

/** @param refreshMs - until the next page at the earliest; null for the last one */
export async function renderRun(
  log: RunLog,
  status: RunStatus,
  store: PictureStore,
  refreshMs: number | null,
): Promise<string> {
  return trainingPage({
    log,
    status,
    pictures: await runPictureGrid(log.pictures, store),
    refreshSeconds: refreshMs === null ? null : Math.ceil(refreshMs / 1000),
    date: new Date().toISOString(),
  });
}
