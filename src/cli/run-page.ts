/** The page of a run, beside its training. */

import type { RunReport, WrittenReport } from "../report/training/run-report.js";
import type { TrainEvent } from "../training/events.js";

/** Hands events to a `RunReport`, which is loaded (charts and all) while the first steps are computed. */
export class RunPage {
  readonly #onProblem: (problem: string) => void;
  readonly #waiting: TrainEvent[] = [];
  #loading: Promise<void> | null = null;
  #report: RunReport | null = null;

  constructor(onProblem: (problem: string) => void) {
    this.#onProblem = onProblem;
  }

  event(event: TrainEvent): void {
    if (event.type === "start") this.#loading = this.#load().catch((error) => this.#tell(error));
    if (this.#report === null) this.#waiting.push(event);
    else this.#report.event(event);
  }

  /** @returns null where no page was written */
  async finish(): Promise<WrittenReport | null> {
    await this.#loading;
    return (await this.#report?.finish()) ?? null;
  }

  async #load(): Promise<void> {
    const { RunReport } = await import("../report/training/run-report.js");
    const report = new RunReport({ onProblem: (error) => this.#tell(error) });
    for (const event of this.#waiting) report.event(event);
    this.#waiting.length = 0;
    this.#report = report;
  }

  #tell(error: unknown): void {
    this.#onProblem(`there is no page of this run: ${error instanceof Error ? error.message : error}`);
  }
}
