import type { WrittenReport } from "../report/training/run-report.js";
import type { ResumingEvent, StepEvent, TrainEvent } from "../training/events.js";
import { printNote } from "./command.js";
import { formatBytes, formatPath } from "./format.js";
import { writeEvent } from "./json.js";
import { ProgressLine } from "./progress-line.js";
import type { Terminal } from "./terminal.js";
import {
  endBlock,
  interruptedBlock,
  sampleLine,
  startBlock,
  stepLine,
  validationLine,
} from "./train-output.js";

/** Plain lines aim at this many over a run … */
const PLAIN_LINES = 50;
/** … and are never further apart than this. */
const PLAIN_INTERVAL_MS = 60_000;

/** Prints the events of a training run: as lines for people on stderr, or as JSON lines on stdout. */
export class TrainReporter {
  readonly #terminal: Terminal;
  readonly #json: boolean;
  readonly #line: ProgressLine;
  readonly #now: () => number;
  #task: string | null = null;
  #plainAtMs = Number.NEGATIVE_INFINITY;
  #firstStep = true;
  #module: "lora" | "dylora" | null = null;

  constructor(terminal: Terminal, options: { json: boolean; now?: () => number }) {
    this.#terminal = terminal;
    this.#json = options.json;
    this.#now = options.now ?? performance.now.bind(performance);
    this.#line = new ProgressLine(terminal.stderr, this.#now);
  }

  note(text: string): void {
    if (this.#json) writeEvent(this.#terminal.stdout, { type: "warning", message: text });
    else printNote(this.#terminal.stderr, text);
  }

  event(event: TrainEvent): void {
    if (this.#json) writeEvent(this.#terminal.stdout, event);
    else this.#print(event);
  }

  /** The run's page lies complete on the disk. */
  report({ path, sizeBytes }: WrittenReport): void {
    if (this.#json) writeEvent(this.#terminal.stdout, { type: "report", path, sizeBytes });
    else this.#line.print(`report  ${formatPath(path)} (${formatBytes(sizeBytes)})`);
  }

  /** Takes the progress line away, so that what follows starts on a line of its own. */
  close(): void {
    this.#line.clear();
  }

  #print(event: TrainEvent): void {
    const line = this.#line;
    switch (event.type) {
      case "resuming":
        line.print(resumingLine(event));
        break;
      case "preparing":
        this.#preparing(event.task, event.done, event.total);
        break;
      case "start":
        this.#module = event.network.module;
        line.print(startBlock(event));
        break;
      case "step":
        if (this.#terminal.stderr.isTerminal) line.update(stepLine(event));
        else if (this.#isPlainStep(event)) line.print(stepLine(event));
        break;
      case "validation":
        line.print(validationLine(event));
        break;
      case "sample":
        line.print(sampleLine(event));
        break;
      case "saved":
        line.print(`saved ${formatPath(event.path)} (${formatBytes(event.sizeBytes)}) at step ${event.step}`);
        break;
      case "warning":
        line.print(`${this.#terminal.stderr.style.yellow("warning")}: ${event.message}`);
        break;
      case "interrupted":
        line.print(interruptedBlock(event));
        break;
      case "end":
        line.clear();
        this.#terminal.stdout.write(endBlock(event, this.#module));
        break;
    }
  }

  #preparing(task: string, done: number, total: number | null): void {
    const amount = total === null ? "" : ` ${done}/${total}`;
    if (this.#terminal.stderr.isTerminal) this.#line.update(`${task}${amount}`);
    else if (task !== this.#task) this.#line.print(total === null ? task : `${task} (${total})`);
    this.#task = task;
  }

  /** The first step, the last one, and between them as many as a log file can take. */
  #isPlainStep({ step, totalSteps }: StepEvent): boolean {
    const due =
      this.#firstStep ||
      step === totalSteps ||
      step % plainInterval(totalSteps) === 0 ||
      this.#now() - this.#plainAtMs >= PLAIN_INTERVAL_MS;
    this.#firstStep = false;
    if (due) this.#plainAtMs = this.#now();
    return due;
  }
}

function resumingLine({ stateDir, fromStep, totalSteps }: ResumingEvent): string {
  const state = formatPath(stateDir);
  if (fromStep < totalSteps) return `resuming at step ${fromStep + 1} of ${totalSteps} from ${state}`;
  return `resuming from ${state}: all ${totalSteps} steps are done, the LoRA file is written`;
}

/** Steps between plain lines: 1, 2, 5, 10, 20, 50, … */
export function plainInterval(totalSteps: number): number {
  const least = totalSteps / PLAIN_LINES;
  for (let power = 1; ; power *= 10) {
    for (const factor of [1, 2, 5]) if (factor * power >= least) return factor * power;
  }
}
