/** The page of a run, beside its training. */

import type { RunReport, WrittenReport } from "../report/training/run-report.js";
import type { StartEvent, TrainEvent } from "../training/events.js";

/** Charts and all take a few tenths of a second to load; a run that is over sooner pays for it at its end. */
const LOAD_AFTER_MS = 20_000;

export interface RunPageOptions {
  readonly onProblem: (problem: string) => void;
  readonly now?: () => number;
}

/** Hands events to a `RunReport`, which is loaded when a first page may be due. */
export class RunPage {
  readonly #onProblem: (problem: string) => void;
  readonly #now: () => number;
  #start: { readonly event: StartEvent; readonly ms: number } | null = null;
  /** Nothing but its end matters before there is a report. */
  #end: TrainEvent | null = null;
  #loading: Promise<void> | null = null;
  #report: RunReport | null = null;

  constructor({ onProblem, now = performance.now.bind(performance) }: RunPageOptions) {
    this.#onProblem = onProblem;
    this.#now = now;
  }

  event(event: TrainEvent): void {
    if (this.#report !== null) {
      this.#report.event(event);
      return;
    }
    // No page, no charts: none of it is loaded.
    if (event.type === "start" && event.report !== "none") this.#start = { event, ms: this.#now() };
    if (event.type === "end") this.#end = event;
    if (event.type === "step" && this.#start !== null && this.#now() >= this.#start.ms + LOAD_AFTER_MS) {
      this.#loadOnce(this.#start.event);
    }
  }

  /** @returns null where no page was written */
  async finish(): Promise<WrittenReport | null> {
    if (this.#start !== null) await this.#loadOnce(this.#start.event);
    return (await this.#report?.finish()) ?? null;
  }

  #loadOnce(start: StartEvent): Promise<void> {
    this.#loading ??= this.#load(start).catch((error) => this.#tell(error));
    return this.#loading;
  }

  async #load(start: StartEvent): Promise<void> {
    const before = this.#now();
    const { RunReport } = await import("../report/training/run-report.js");
    const report = new RunReport({
      onProblem: (error) => this.#tell(error),
      now: this.#now,
      spentMs: this.#now() - before,
    });
    report.event(start);
    if (this.#end !== null) report.event(this.#end);
    this.#report = report;
  }

  #tell(error: unknown): void {
    this.#onProblem(`there is no page of this run: ${error instanceof Error ? error.message : error}`);
  }
}
