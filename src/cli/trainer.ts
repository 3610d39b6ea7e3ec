import type { TrainEvent, TrainHooks, TrainResult } from "../training/events.js";
import type { CommandContext } from "./command.js";
import { INTERRUPTED_EXIT_CODE } from "./interrupt.js";
import { RunPage } from "./run-page.js";
import { TrainReporter } from "./train-reporter.js";

export type Trainer = typeof import("../training/train.js");

/** Runs the trainer with everything it reports printed. @returns the exit status */
export async function runTrainer(
  context: CommandContext,
  notes: readonly string[],
  start: (trainer: Trainer, hooks: TrainHooks) => Promise<TrainResult>,
): Promise<number> {
  const reporter = new TrainReporter(context, { json: context.json });
  for (const note of notes) reporter.note(note);
  const page = new RunPage({ onProblem: (problem) => reporter.note(problem) });
  // Said when the page is written: who reads events knows that nothing comes after it.
  let last: TrainEvent | null = null;
  try {
    // Loaded only now: a mistake in the options is answered before onnxruntime and sharp are read from the disk.
    const trainer = await import("../training/train.js");
    const result = await start(trainer, {
      onEvent: (event) => {
        page.event(event);
        if (event.type === "end" || event.type === "interrupted") last = event;
        else reporter.event(event);
      },
      signal: context.signal,
    });
    return result.status === "interrupted" ? INTERRUPTED_EXIT_CODE : 0;
  } finally {
    const written = await page.finish();
    if (written !== null) reporter.report(written);
    if (last !== null) reporter.event(last);
    reporter.close();
  }
}
