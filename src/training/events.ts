/**
 * What a training run reports while it runs.
 *
 * The library prints nothing: it hands these events to `onEvent`. The command line turns them into progress lines, or
 * with `--json` into one JSON document a line, so the shapes here are API. All sizes are in bytes, all times in seconds.
 */
import type { DeviceName } from "../runtime/device.js";
import type { TrainConfig } from "./config.js";

/** The first event of a run that continues another one. */
export interface ResumingEvent {
  readonly type: "resuming";
  readonly stateDir: string;
  /** The last step that the state contains; the run goes on with the one after it. */
  readonly fromStep: number;
  readonly totalSteps: number;
}

/** A part of the preparation that takes time: reading the checkpoint, encoding latents, building the session. */
export interface PreparingEvent {
  readonly type: "preparing";
  /** What is being done, as `encoding latents`. */
  readonly task: string;
  readonly done: number;
  /** Null where the amount is not known beforehand. */
  readonly total: number | null;
}

/** The run is about to take its first step. */
export interface StartEvent {
  readonly type: "start";
  readonly device: DeviceName;
  /** The execution provider as onnxruntime names it, for example `CPUExecutionProvider`. */
  readonly provider: string;
  /** Number format of the computation. */
  readonly dtype: "float32" | "float16";
  readonly executionMode: "fast" | "lean";
  /**
   * Factors, gradients and optimizer state stay on the device; losses and the norm of the gradients come back. (On a GPU no operator
   * of the model runs on the CPU, in either case.)
   */
  readonly residentStep: boolean;
  readonly baseModel: {
    readonly path: string;
    /** As in the file's metadata: `sd_v1`, `sd_v2`, `sd_v2_v`. */
    readonly version: string;
    readonly predictionType: "epsilon" | "v";
  };
  readonly network: {
    readonly module: "lora" | "dylora";
    readonly maxRank: number;
    readonly unit: number;
    readonly alpha: number;
    readonly updateMode: "full" | "frozen";
    /** The ranks that are drawn, ascending. */
    readonly ranks: readonly number[];
    readonly unetModules: number;
    readonly textEncoderModules: number;
    readonly trainableParameters: number;
    /** Trainable parameters as a share of all parameters of U-Net and text encoder, in percent. */
    readonly trainablePercent: number;
  };
  readonly data: {
    /** Distinct images that are trained on, without repeats. */
    readonly imageCount: number;
    /** Samples of one epoch: images counted as often as they repeat. */
    readonly samplesPerEpoch: number;
    readonly validationImageCount: number;
    /** `--resolution`; with buckets only its area counts. */
    readonly width: number;
    readonly height: number;
    /** The sizes that are trained at, by width, then height; empty without `--enable_bucket`. */
    readonly buckets: readonly BucketFacts[];
  };
  readonly batchSize: number;
  readonly gradientAccumulationSteps: number;
  readonly totalSteps: number;
  readonly totalEpochs: number;
  readonly seed: number;
  /** Resident memory of the process, as the system counts it. */
  readonly estimatedPeakBytes: number;
  /** Of `estimatedPeakBytes`: weights that the sessions of several sizes share; they lie in memory once. */
  readonly sharedWeightBytes: number;
  readonly outputDir: string;
  /** Whether the run has a page, `--report`. */
  readonly report: "html" | "none";
  /** The last step of the run that is continued; null for a new run. */
  readonly resumedFromStep: number | null;
}

/** The images of one size. */
export interface BucketFacts {
  readonly width: number;
  readonly height: number;
  readonly imageCount: number;
  /** Images counted as often as an epoch shows them. */
  readonly sampleCount: number;
}

/** One optimizer step is done. */
export interface StepEvent {
  readonly type: "step";
  /** Counts from 1 over the whole run, resumed parts included. */
  readonly step: number;
  readonly totalSteps: number;
  /** Counts from 1. */
  readonly epoch: number;
  /** Mean loss of the step's samples. */
  readonly loss: number;
  /** Exponential moving average of `loss`. */
  readonly lossEma: number;
  /** The distinct ranks drawn in this step, ascending. */
  readonly ranks: readonly number[];
  /** By component, those that are trained. */
  readonly learningRates: { readonly unet?: number; readonly textEncoder?: number };
  /** Norm of all gradients together, before they are clipped; not finite (null in JSON) in a step that was skipped. */
  readonly gradNorm: number;
  /** With `--mixed_precision fp16` only. */
  readonly lossScaling?: {
    /** What the loss was multiplied with in this step. */
    readonly scale: number;
    /** A gradient overflowed float16, and the factors were left as they were. */
    readonly skipped: boolean;
    /** Steps skipped so far, this one included. */
    readonly skippedSteps: number;
  };
  /** Smoothed over the last steps. */
  readonly secondsPerStep: number;
  readonly etaSeconds: number;
  /** Resident memory of the process now. */
  readonly rssBytes: number;
}

/** The held-out images were evaluated, every rank on the same noise and timesteps. */
export interface ValidationEvent {
  readonly type: "validation";
  readonly step: number;
  readonly epoch: number;
  readonly sampleCount: number;
  readonly byRank: readonly { readonly rank: number; readonly loss: number }[];
}

/** A picture was drawn with what is trained so far (`--sample_prompts`). */
export interface SampleEvent {
  readonly type: "sample";
  readonly step: number;
  readonly path: string;
  readonly prompt: string;
  readonly seed: number;
  /** 0: the base model. */
  readonly rank: number;
}

/** A file or a state folder lies complete under its final name. */
export interface SavedEvent {
  readonly type: "saved";
  readonly kind: "weights" | "state";
  readonly step: number;
  readonly path: string;
  readonly sizeBytes: number;
}

/** Something the user should know; the run goes on. */
export interface WarningEvent {
  readonly type: "warning";
  readonly message: string;
}

/** The run was stopped by its signal; what it had learned is saved. */
export interface InterruptedEvent {
  readonly type: "interrupted";
  readonly step: number;
  readonly totalSteps: number;
  readonly stateDir: string;
}

/** The run is complete. */
export interface EndEvent {
  readonly type: "end";
  readonly steps: number;
  readonly lossEma: number;
  readonly seconds: number;
  readonly peakRssBytes: number;
  readonly estimatedPeakBytes: number;
  /** Everything the run wrote that still lies there, in the order of writing. */
  readonly files: readonly TrainedFile[];
}

export type TrainEvent =
  | ResumingEvent
  | PreparingEvent
  | StartEvent
  | StepEvent
  | ValidationEvent
  | SampleEvent
  | SavedEvent
  | WarningEvent
  | InterruptedEvent
  | EndEvent;

export interface TrainedFile {
  readonly kind: "weights" | "state" | "metrics" | "tensorboard";
  readonly path: string;
  readonly sizeBytes: number;
}

export interface TrainHooks {
  /** Called in order and synchronously; it must not throw. */
  readonly onEvent: (event: TrainEvent) => void;
  /** Aborting ends the run after the step that is being computed, and saves its state. */
  readonly signal: AbortSignal;
}

/** How a run ended. A run that could not go on (diverged, disk full, …) throws instead. */
export interface TrainResult {
  readonly status: "completed" | "interrupted";
  readonly step: number;
  readonly totalSteps: number;
  /** The LoRA file of the last step; null where an interrupted run wrote none. */
  readonly weightsPath: string | null;
  /** The state to go on from; null where none was saved. */
  readonly stateDir: string | null;
  readonly config: TrainConfig;
}
