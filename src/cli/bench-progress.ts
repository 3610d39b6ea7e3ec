/** What is said while ranks are compared. */

import { freemem } from "node:os";
import type { BenchPlan, BenchProgress } from "../evaluation/bench-types.js";
import { formatBytes, formatCount, formatDuration } from "./format.js";
import { ProgressLine } from "./progress-line.js";
import type { OutputStream } from "./terminal.js";

/** Runs with less to come are done before anybody has read how long they take. */
const LONG_SECONDS = 60;
/** Between plain lines, where the line cannot be rewritten. */
const PLAIN_INTERVAL_MS = 60_000;

/** Progress on stderr: a rewritten line on a terminal, elsewhere a line a minute; and what a long run will need. */
export class BenchReporter {
  readonly #out: OutputStream;
  readonly #line: ProgressLine;
  readonly #now: () => number;
  #plan: BenchPlan | null = null;
  #saidLength = false;
  #plainAtMs: number;

  constructor(out: OutputStream, options: { now?: () => number; freeBytes?: () => number } = {}) {
    this.#out = out;
    this.#now = options.now ?? performance.now.bind(performance);
    this.#freeBytes = options.freeBytes ?? freemem;
    this.#line = new ProgressLine(out, this.#now);
    this.#plainAtMs = this.#now();
  }

  readonly #freeBytes: () => number;

  plan(plan: BenchPlan): void {
    this.#plan = plan;
    const freeBytes = this.#freeBytes();
    if (plan.device !== "cpu" || plan.estimatedPeakBytes <= freeBytes) return;
    this.#line.print(
      `${this.#out.style.yellow("warning")}: bench needs about ${formatBytes(plan.estimatedPeakBytes)} of memory and ` +
        `${formatBytes(freeBytes)} are free: --execution_mode lean, --batch_size 1 and a lower --resolution need less`,
    );
  }

  progress(progress: BenchProgress): void {
    this.#sayLength(progress);
    const text = progressText(progress);
    if (this.#out.isTerminal) this.#line.update(text);
    else if (this.#now() - this.#plainAtMs >= PLAIN_INTERVAL_MS) {
      this.#plainAtMs = this.#now();
      this.#line.print(text);
    }
  }

  /** Takes the progress line away, so that what follows starts on a line of its own. */
  close(): void {
    this.#line.clear();
  }

  #sayLength({ secondsLeft }: BenchProgress): void {
    if (this.#saidLength || this.#plan === null || secondsLeft === null) return;
    this.#saidLength = true;
    if (secondsLeft < LONG_SECONDS) return;
    const { losses, mayStopEarly, reusedLosses, imageCount, estimatedPeakBytes } = this.#plan;
    const reused = reusedLosses === 0 ? "" : ` (${formatCount(reusedLosses)} more are known)`;
    this.#line.print(
      `measuring ${mayStopEarly ? "up to " : ""}${formatCount(losses)} losses on ${formatCount(imageCount)} images${reused}: ` +
        `${mayStopEarly ? "at most" : "about"} ${formatDuration(secondsLeft)}, ${formatBytes(estimatedPeakBytes)} of memory`,
    );
  }
}

/** `rank 8 of cat.safetensors  120/480  2m 05s left` */
function progressText({ task, done, total, secondsLeft }: BenchProgress): string {
  const left = secondsLeft === null ? "" : `  ${formatDuration(secondsLeft)} left`;
  return `${task}  ${formatCount(done)}/${formatCount(total)}${left}`;
}
