/** The steps of a run, with everything that happens between them: reports, validation, saving, interruption. */

import { stat } from "node:fs/promises";
import type { TrainBatch } from "../denoiser/denoiser.js";
import { DyloraError, internalError } from "../errors.js";
import type { RunEstimate } from "../runtime/memory-estimate.js";
import { peakRssBytes } from "../runtime/peak-memory.js";
import { type BatchOptions, loadBatches, trainBatch } from "./batches.js";
import { learningRatesOf, lrScheduleOptions } from "./config.js";
import { captionsAreFixed, encodesCaptionsAhead } from "./estimate.js";
import type { TrainHooks, TrainResult } from "./events.js";
import { divergedNote, goOnNote, nothingLearnedNote } from "./failure-notes.js";
import { createLrSchedule } from "./lr-schedule.js";
import type { MetricsLog } from "./metrics-log.js";
import { createParameterStore, type LearningRates, type ParameterStore } from "./parameters/index.js";
import type { PreparedRun } from "./prepare.js";
import type { RunProgress } from "./run-state.js";
import { drawSamples, samplePoint } from "./samples.js";
import { Saver } from "./saver.js";
import { Stepper, type StepResult } from "./step.js";
import { startEvent, startRecord, stepEvent, stepFacts, stepRecord } from "./step-report.js";
import { StepTimer } from "./step-timer.js";
import { shouldValidate, validate } from "./validation.js";

export interface RunContext {
  readonly run: PreparedRun;
  readonly progress: RunProgress;
  readonly identities: Readonly<Record<string, string>>;
  readonly log: MetricsLog;
  /** Null for a new run. */
  readonly resumedFromStep: number | null;
  readonly memory: RunEstimate;
}

/**
 * Runs until the last step, or until `hooks.signal` asks to stop: then the step under way is finished and the state saved.
 *
 * Takes care of everything that `context` holds: sessions are released and the log is closed, however the run ends.
 */
export async function runSteps(context: RunContext, hooks: TrainHooks): Promise<TrainResult> {
  const parameters = createParameterStore(context.run);
  try {
    return await new StepLoop(context, parameters, hooks).run();
  } finally {
    context.log.close();
    await parameters.release();
    await context.run.conditioning.release();
    await context.run.denoiser.release();
  }
}

class StepLoop {
  readonly #context: RunContext;
  readonly #run: PreparedRun;
  readonly #progress: RunProgress;
  readonly #hooks: TrainHooks;
  readonly #saver: Saver;
  readonly #stepper: Stepper;
  readonly #parameters: ParameterStore;
  readonly #learningRateFactor: (step: number) => number;
  readonly #timer: StepTimer;
  #truncationWarned = false;
  /** Loads run on until the run ends, whatever the user's signal says: the step under way is finished. */
  readonly #loading = new AbortController();

  constructor(context: RunContext, parameters: ParameterStore, hooks: TrainHooks) {
    const { run, progress, identities } = context;
    const { config, modules, plan, seed } = run;
    this.#context = context;
    this.#run = run;
    this.#progress = progress;
    this.#hooks = hooks;
    this.#saver = new Saver(run, progress, identities, hooks);
    this.#parameters = parameters;
    this.#stepper = new Stepper({
      parameters,
      modules,
      plan,
      seed,
      maxGradNorm: config.maxGradNorm,
      lossScaler: progress.lossScaler,
      onFinite: () => parameters.lastGood.remember(progress),
    });
    this.#learningRateFactor = createLrSchedule(lrScheduleOptions(config, run.totalSteps));
    this.#timer = new StepTimer(run.totalSteps);
  }

  async run(): Promise<TrainResult> {
    const { config, totalSteps, batches } = this.#run;
    const progress = this.#progress;
    if (progress.step < totalSteps) await this.#warmUp();
    const { resumedFromStep, memory } = this.#context;
    const started = startEvent(this.#run, resumedFromStep, memory, this.#parameters.isResident);
    this.#context.log.append(startRecord(started, progress.step, config));
    this.#hooks.onEvent(started);
    this.#timer.start();

    const accumulation = config.gradientAccumulationSteps;
    const loader = loadBatches(
      batches,
      { first: progress.step * accumulation, end: totalSteps * accumulation },
      { workers: config.maxDataLoaderNWorkers, signal: this.#loading.signal },
    );
    try {
      if (progress.validationDue) await this.#validate();
      if (progress.samplesDue) await this.#sample(this.#epochsEndedBy(progress.step));
      while (progress.step < totalSteps) {
        if (this.#hooks.signal.aborted) return await this.#interrupt();
        await this.#step(takeBatches(batches, loader, accumulation));
      }
      return await this.#finish();
    } catch (error) {
      throw await this.#rescue(error);
    } finally {
      this.#loading.abort();
      await loader.return?.();
    }
  }

  /** Encodes images and captions that will be needed again, and makes the session of the first step. */
  async #warmUp(): Promise<void> {
    const { config, conditioning, data } = this.#run;
    const { signal } = this.#hooks;
    const encoding = (done: number, total: number) =>
      this.#hooks.onEvent({ type: "preparing", task: "encoding images", done, total });
    if (config.cacheLatents) {
      const workers = config.maxDataLoaderNWorkers;
      await conditioning.latents.fill([...data.train.items, ...data.validation.items], {
        flipAug: config.flipAug,
        onProgress: encoding,
        signal,
        ...(workers === null ? {} : { workers }),
      });
      await conditioning.releaseEncoder();
    }
    if (encodesCaptionsAhead(this.#run)) {
      await conditioning.fillTexts(this.#captions(), signal);
      await conditioning.releaseTextEncoder();
    }
    this.#hooks.onEvent({ type: "preparing", task: "preparing the training step", done: 0, total: null });
    const { step } = this.#progress;
    const [first] = this.#run.batches.sampler.batchAt(step * config.gradientAccumulationSteps);
    const { height, width } = await conditioning.moments(first!.item, first!.flip);
    const text = await conditioning.text([first!.caption]);
    const tokens = "tokens" in text ? text.tokens[0]!.length : text.tokensPerPrompt;
    await this.#parameters.prepare({ count: config.trainBatchSize, height, width }, tokens);
  }

  /** Every caption that the run will show, where they are the same each time. */
  *#captions(): Generator<string> {
    const { data, batches } = this.#run;
    for (const { caption } of data.validation.items) yield caption;
    for (const item of data.train.items) yield batches.sampler.fixedCaption(item);
  }

  async #step(batches: AsyncIterable<TrainBatch>): Promise<void> {
    const { config, totalSteps } = this.#run;
    const progress = this.#progress;
    const rates = this.#learningRates(progress.step);
    const result = await this.#stepper.step(progress.step, batches, rates);
    progress.step++;
    for (const { rank, loss } of result.draws) progress.averages.add(rank, loss);
    this.#timer.step();
    this.#report(result, rates);
    this.#warnOfTruncation();

    const { step } = progress;
    const epochs = this.#epochsEndedBy(step);
    if (shouldValidate(this.#run, step, epochs)) await this.#validate();
    await this.#sample(epochs);
    if (step === totalSteps) return;
    // After an epoch every caption is in the cache.
    if (epochs.length > 0 && captionsAreFixed(config)) await this.#run.conditioning.releaseTextEncoder();
    const { saveEveryNSteps, saveEveryNEpochs } = config;
    if (saveEveryNSteps !== null && step % saveEveryNSteps === 0) await this.#save({ kind: "step", step });
    if (saveEveryNEpochs === null) return;
    const epoch = epochs.filter((ended) => ended % saveEveryNEpochs === 0).at(-1);
    if (epoch !== undefined) await this.#save({ kind: "epoch", epoch });
  }

  #learningRates(step: number): LearningRates {
    const factor = this.#learningRateFactor(step);
    const { unet, textEncoder } = learningRatesOf(this.#run.config);
    return { unet: (unet ?? 0) * factor, text_encoder: (textEncoder ?? 0) * factor };
  }

  /** The epochs (from 1) that this step completed; several where an epoch has fewer samples than a step. */
  #epochsEndedBy(step: number): number[] {
    const before = this.#epochsCompleted(step - 1);
    return Array.from({ length: this.#epochsCompleted(step) - before }, (_, index) => before + 1 + index);
  }

  #epochsCompleted(steps: number): number {
    const { batches, config } = this.#run;
    return batches.sampler.plan.epochsCompleted(steps * config.gradientAccumulationSteps);
  }

  #report(result: StepResult, rates: LearningRates): void {
    const facts = stepFacts(this.#run, this.#progress, result, rates);
    this.#context.log.append(stepRecord(facts, result, this.#timer.lastSeconds));
    this.#hooks.onEvent(
      stepEvent(facts, result, this.#run.totalSteps, {
        secondsPerStep: this.#timer.smoothedSeconds,
        etaSeconds: this.#timer.etaSeconds(facts.step),
      }),
    );
  }

  /** It may take long: a run that is to stop leaves it for when the run goes on. */
  async #validate(): Promise<void> {
    const { heldOut } = this.#run;
    const { step } = this.#progress;
    this.#progress.validationDue = true;
    await this.#parameters.toHost();
    const byRank = await validate(this.#run, this.#hooks.signal);
    if (byRank === null || heldOut === null) return;
    this.#progress.validationDue = false;
    this.#timer.exclude();
    const sampleCount = heldOut.samples.length;
    const lossByRank = Object.fromEntries(byRank.map(({ rank, loss }) => [rank, loss]));
    this.#context.log.append({ step, validation: { sampleCount, lossByRank } });
    const epoch = this.#epochsCompleted(step);
    this.#hooks.onEvent({ type: "validation", step, epoch, sampleCount, byRank });
  }

  /** Like {@link #validate}, before anything is saved: what a state contains has its pictures. */
  async #sample(epochsEnded: readonly number[]): Promise<void> {
    const progress = this.#progress;
    const { step } = progress;
    const point = samplePoint(this.#run, step, epochsEnded);
    progress.samplesDue = point !== null;
    if (point === null) return;
    await this.#parameters.toHost();
    const drawn = await drawSamples(this.#run, step, point, {
      signal: this.#hooks.signal,
      onProgress: (done, total) =>
        this.#hooks.onEvent({ type: "preparing", task: "drawing samples", done, total }),
      onWarning: (message) => this.#hooks.onEvent({ type: "warning", message }),
    });
    if (drawn === null) return;
    progress.samplesDue = false;
    this.#timer.exclude();
    const records = drawn.map(({ path, prompt, seed, rank }, index) => [index, { path, prompt, seed, rank }]);
    this.#context.log.append({ step, samples: Object.fromEntries(records) });
    for (const event of drawn) this.#hooks.onEvent(event);
  }

  async #save(point: Parameters<Saver["save"]>[0]): Promise<{ weights: string; state: string | null }> {
    this.#context.log.sync();
    await this.#parameters.toHost();
    const saved = await this.#saver.save(point);
    this.#timer.exclude();
    return saved;
  }

  async #interrupt(): Promise<TrainResult> {
    const { step } = this.#progress;
    const { config, totalSteps } = this.#run;
    this.#context.log.sync();
    await this.#parameters.toHost();
    const stateDir = await this.#saver.saveState({ kind: "step", step });
    this.#hooks.onEvent({ type: "interrupted", step, totalSteps, stateDir });
    return { status: "interrupted", step, totalSteps, weightsPath: null, stateDir, config };
  }

  /** What the run has learned is not lost with the step that failed: its state is saved, where that can succeed. */
  async #rescue(error: unknown): Promise<unknown> {
    const code = error instanceof DyloraError ? error.code : "E_INTERNAL";
    if (code === "E_WRITE") return error;
    const { resumedFromStep, log } = this.#context;
    if (code === "E_DIVERGED") this.#parameters.lastGood.restore(this.#progress);
    const { step } = this.#progress;
    let note = nothingLearnedNote(resumedFromStep);
    if (step > (resumedFromStep ?? 0)) {
      try {
        log.sync();
        await this.#parameters.toHost();
        const stateDir = await this.#saver.saveState({ kind: "step", step });
        note =
          code === "E_DIVERGED" ? divergedNote(this.#run.config, step, stateDir) : goOnNote(step, stateDir);
      } catch {
        return error;
      }
    }
    if (!(error instanceof DyloraError)) return error;
    const ownNote = error.note === undefined ? "" : `${error.note} `;
    return new DyloraError(code, error.message, { note: `${ownNote}${note}`, cause: error });
  }

  #warnOfTruncation(): void {
    const [caption] = this.#run.conditioning.truncatedCaptions;
    if (caption === undefined || this.#truncationWarned) return;
    this.#truncationWarned = true;
    this.#hooks.onEvent({
      type: "warning",
      message: `Captions are cut after 75 tokens, and some are longer; the first that was seen is "${caption}".`,
    });
  }

  async #finish(): Promise<TrainResult> {
    const { config, totalSteps } = this.#run;
    const { step, averages } = this.#progress;
    const { weights, state } = await this.#save({ kind: "last" });
    const { size } = await stat(this.#context.log.path);
    this.#hooks.onEvent({
      type: "end",
      steps: step,
      lossEma: averages.overall.value ?? Number.NaN,
      seconds: this.#timer.totalSeconds,
      peakRssBytes: peakRssBytes(),
      estimatedPeakBytes: this.#context.memory.totalBytes,
      files: [...this.#saver.files, { kind: "metrics", path: this.#context.log.path, sizeBytes: size }],
    });
    return { status: "completed", step, totalSteps, weightsPath: weights, stateDir: state, config };
  }
}

async function* takeBatches(options: BatchOptions, loader: ReturnType<typeof loadBatches>, count: number) {
  for (let index = 0; index < count; index++) {
    const { value, done } = await loader.next();
    if (done) throw internalError("the loader ended before the run");
    yield await trainBatch(options, value);
  }
}
