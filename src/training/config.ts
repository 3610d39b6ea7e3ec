import { adjustBounds, type BucketRules } from "../data/index.js";
import { parseNetworkArgs, rankPlanOf } from "../dylora/index.js";
import { DyloraError } from "../errors.js";
import { type ConfigOf, camelCase, defaultsOf, type OptionSpec } from "../options/option-spec.js";
import { completeOptions, readConfigObject } from "../options/read-options.js";
import { createLrSchedule, type LrScheduleOptions } from "./lr-schedule.js";
import { createOptimizer } from "./optimizer/create-optimizer.js";
import { TRAIN_OPTIONS } from "./options.js";

/**
 * Everything that decides a training run. Plain data: it is stored as JSON in every training state.
 *
 * Field names are the option names of {@link TRAIN_OPTIONS} in camelCase, where units and defaults are described.
 * Paths are absolute.
 */
export type TrainConfig = ConfigOf<typeof TRAIN_OPTIONS>;

/** The options that have no default, and any of the others. */
export type TrainConfigInput = Pick<TrainConfig, "pretrainedModelNameOrPath" | "trainDataDir"> &
  Partial<TrainConfig>;

/** Options given explicitly to a run that continues another one. */
export type TrainOverrides = Partial<TrainConfig>;

/**
 * Completes a configuration with the defaults and checks it.
 *
 * @throws {DyloraError} `E_CONFIG` for an unknown option, a value that does not fit, or options that contradict each
 *   other (all contradictions are named at once); `E_RANK` where `networkDim`, unit and ranks do not fit together
 */
export function createTrainConfig(input: TrainConfigInput): TrainConfig {
  const set = { command: "train", table: TRAIN_OPTIONS };
  const config = normalise(completeOptions(set, readConfigObject(set, input), "E_CONFIG"));
  validateTrainConfig(config);
  return config;
}

/** The values that sd-scripts reads as "off" or "the same as", spelled out. */
function normalise(config: TrainConfig): TrainConfig {
  return {
    ...config,
    networkAlpha: config.networkAlpha === 0 ? config.networkDim : config.networkAlpha,
    cacheLatents: config.cacheLatents || config.cacheLatentsToDisk,
    minSnrGamma: config.minSnrGamma === 0 ? null : config.minSnrGamma,
    noiseOffset: config.noiseOffset === 0 ? null : config.noiseOffset,
    sampleEveryNSteps: config.sampleEveryNSteps === 0 ? null : config.sampleEveryNSteps,
    sampleEveryNEpochs: config.sampleEveryNEpochs === 0 ? null : config.sampleEveryNEpochs,
  };
}

/** Learning rate by component; null for a component that is not trained. */
export interface ComponentLearningRates {
  readonly unet: number | null;
  readonly textEncoder: number | null;
}

/** `--unet_lr` and `--text_encoder_lr` before `--learning_rate`; a rate of 0 does not train the component. */
export function learningRatesOf(config: TrainConfig): ComponentLearningRates {
  const rate = (own: number | null, trained: boolean) => {
    const value = own ?? config.learningRate;
    return trained && value > 0 ? value : null;
  };
  return {
    unet: rate(config.unetLr, !config.networkTrainTextEncoderOnly),
    textEncoder: rate(config.textEncoderLr, !config.networkTrainUnetOnly),
  };
}

/**
 * Checks that the options of a configuration hold together. Values by themselves are the business of
 * {@link createTrainConfig}; what depends on files (the model, the images) is checked when they are opened.
 *
 * @throws {DyloraError} `E_CONFIG` that names every contradiction, or what is wrong with the arguments of network,
 *   optimizer or schedule; `E_RANK` as `createRankPlan`
 */
export function validateTrainConfig(config: TrainConfig): void {
  const problems = contradictions(config);
  if (problems.length === 1)
    throw new DyloraError("E_CONFIG", `train: ${problems[0]}`, { note: NOTHING_STARTED });
  if (problems.length > 1) {
    const list = problems.map((problem) => `\n  - ${problem}`).join("");
    throw new DyloraError("E_CONFIG", `train: ${problems.length} options do not hold together:${list}`, {
      note: NOTHING_STARTED,
    });
  }
  const networkArgs = parseNetworkArgs(config.networkArgs, config.networkModule);
  if (!config.dimFromWeights) rankPlanOf(config.networkModule, config.networkDim, networkArgs);
  createOptimizer(config.optimizerType, config.optimizerArgs);
  // How many steps some epochs are is known once the images are counted; what does not depend on it is checked now.
  const totalSteps = config.maxTrainEpochs === null ? config.maxTrainSteps : Number.MAX_SAFE_INTEGER;
  createLrSchedule(lrScheduleOptions(config, totalSteps));
}

/** The arguments of {@link createLrSchedule} for a run of `totalSteps` optimizer steps. */
export function lrScheduleOptions(config: TrainConfig, totalSteps: number): LrScheduleOptions {
  return {
    name: config.lrScheduler,
    totalSteps,
    warmupSteps: config.lrWarmupSteps,
    decaySteps: config.lrDecaySteps,
    numCycles: config.lrSchedulerNumCycles,
    power: config.lrSchedulerPower,
    timescale: config.lrSchedulerTimescale,
    minLrRatio: config.lrSchedulerMinLrRatio,
    learningRate: config.learningRate,
    args: config.lrSchedulerArgs,
  };
}

/** The rules of the buckets; null where all images are trained at `--resolution`. */
export function bucketRulesOf(config: TrainConfig): BucketRules | null {
  if (!config.enableBucket) return null;
  const { resolution, minBucketReso, maxBucketReso, bucketResoSteps, bucketNoUpscale } = config;
  return {
    resolution,
    ...adjustBounds({ minSide: minBucketReso, maxSide: maxBucketReso }, bucketResoSteps),
    steps: bucketResoSteps,
    noUpscale: bucketNoUpscale,
  };
}

const NOTHING_STARTED = "Nothing was started.";

/** The VAE makes one latent out of 8 x 8 pixels. */
const PIXELS_PER_LATENT = 8;

function contradictions(config: TrainConfig): string[] {
  const problems: string[] = [];
  const { width, height } = config.resolution;
  if (config.networkTrainUnetOnly && config.networkTrainTextEncoderOnly) {
    problems.push(
      "--network_train_unet_only and --network_train_text_encoder_only exclude each other: leave both out to train both",
    );
  } else if (learningRatesOf(config).unet === null && learningRatesOf(config).textEncoder === null) {
    problems.push("nothing would be trained: the learning rate of every trained component is 0");
  }
  if (config.dimFromWeights && config.networkWeights === null) {
    problems.push("--dim_from_weights needs a file: give it with --network_weights");
  }
  const buckets = bucketRulesOf(config);
  if (buckets !== null) {
    problems.push(...bucketProblems(buckets));
  } else if (width % PIXELS_PER_LATENT !== 0 || height % PIXELS_PER_LATENT !== 0) {
    const nearest = [width, height].map((side) => Math.max(1, Math.round(side / 64)) * 64);
    problems.push(
      `--resolution ${width},${height} is not a multiple of ${PIXELS_PER_LATENT} pixels: use ${nearest.join(",")}`,
    );
  }
  if (config.minTimestep >= config.maxTimestep) {
    problems.push(
      `--min_timestep ${config.minTimestep} is not below --max_timestep ${config.maxTimestep}: no timestep is left`,
    );
  }
  if (config.validationSplit > 0 && config.validationDir !== null) {
    problems.push("--validation_split and --validation_dir exclude each other: choose one");
  }
  const validates = config.validationSplit > 0 || config.validationDir !== null;
  for (const name of ["validate_every_n_steps", "validate_every_n_epochs"] as const) {
    if (config[camelCase(name)] !== null && !validates) {
      problems.push(`--${name} needs images to validate on: give --validation_split 0.1 or --validation_dir`);
    }
  }
  for (const name of ["sample_every_n_steps", "sample_every_n_epochs", "sample_at_first"] as const) {
    const asked = config[camelCase(name)];
    if (asked !== null && asked !== false && config.samplePrompts === null) {
      problems.push(`--${name} needs prompts: give a file with --sample_prompts`);
    }
  }
  if (
    config.outputName === "" ||
    /[/\\]/.test(config.outputName) ||
    config.outputName.endsWith(".safetensors")
  ) {
    problems.push(
      `--output_name "${config.outputName}" is not a plain name: folders belong into --output_dir, and .safetensors is added`,
    );
  }
  if (config.saveLastNSteps !== null && config.saveEveryNSteps === null) {
    problems.push("--save_last_n_steps works with --save_every_n_steps only");
  }
  if (config.saveLastNStepsState !== null && !(config.saveState && config.saveEveryNSteps !== null)) {
    problems.push("--save_last_n_steps_state works with --save_state and --save_every_n_steps only");
  }
  if (config.logWith !== null && config.loggingDir === null) {
    problems.push(`--log_with ${config.logWith} needs a folder: give it with --logging_dir`);
  }
  return problems;
}

function bucketProblems({ resolution, minSide, maxSide, steps }: BucketRules): string[] {
  const { width, height } = resolution;
  const problems: string[] = [];
  if (minSide < steps) {
    problems.push(`--min_bucket_reso is shorter than one step: give at least --bucket_reso_steps, ${steps}`);
  }
  if (Math.min(width, height) < minSide) {
    problems.push(
      `--min_bucket_reso ${minSide} is above --resolution ${width},${height}: lower it to at most ${Math.min(width, height)}`,
    );
  }
  if (Math.max(width, height) > maxSide) {
    problems.push(
      `--max_bucket_reso ${maxSide} is below --resolution ${width},${height}: raise it to at least ${Math.max(width, height)}`,
    );
  }
  return problems;
}

/**
 * What a configuration asks for and will not get any effect from, as sentences for the user.
 *
 * @param given - the options that were given explicitly
 */
export function pointlessOptions(config: TrainConfig, given: TrainOverrides): string[] {
  const notes: string[] = [];
  const has = (name: keyof TrainConfig) => given[name] !== undefined && given[name] !== null;
  if (has("maxTrainEpochs") && has("maxTrainSteps")) {
    notes.push(
      `--max_train_epochs ${config.maxTrainEpochs} overrides --max_train_steps ${config.maxTrainSteps}.`,
    );
  }
  if (
    has("samplePrompts") &&
    config.sampleEveryNSteps === null &&
    config.sampleEveryNEpochs === null &&
    !config.sampleAtFirst
  ) {
    notes.push(
      "--sample_prompts has no effect without --sample_every_n_steps, --sample_every_n_epochs or --sample_at_first.",
    );
  }
  if (config.networkTrainUnetOnly && has("textEncoderLr")) {
    notes.push(
      "--text_encoder_lr has no effect: the text encoder is not trained (--network_train_unet_only).",
    );
  }
  if (config.networkTrainTextEncoderOnly && has("unetLr")) {
    notes.push("--unet_lr has no effect: the U-Net is not trained (--network_train_text_encoder_only).");
  }
  if (config.dimFromWeights && (has("networkDim") || has("networkAlpha"))) {
    notes.push(
      "--network_dim and --network_alpha have no effect: --dim_from_weights takes both from the file.",
    );
  }
  notes.push(...pointlessBucketOptions(config, has));
  return notes;
}

function pointlessBucketOptions(
  { enableBucket, bucketNoUpscale }: TrainConfig,
  has: (name: keyof TrainConfig) => boolean,
): string[] {
  const flags = (names: readonly (keyof TrainConfig & keyof typeof BUCKET_FLAGS)[]) =>
    names.filter(has).map((name) => BUCKET_FLAGS[name]);
  const bounds = flags(["minBucketReso", "maxBucketReso"]);
  if (!enableBucket) {
    const without = [
      ...bounds,
      ...flags(["bucketResoSteps"]),
      ...(bucketNoUpscale ? ["--bucket_no_upscale"] : []),
    ];
    return without.length === 0 ? [] : [`${without.join(", ")}: no effect without --enable_bucket.`];
  }
  if (!bucketNoUpscale || bounds.length === 0) return [];
  return [`${bounds.join(", ")}: no effect with --bucket_no_upscale, where sizes follow the images.`];
}

const BUCKET_FLAGS = {
  minBucketReso: "--min_bucket_reso",
  maxBucketReso: "--max_bucket_reso",
  bucketResoSteps: "--bucket_reso_steps",
} as const;

/**
 * The configuration of a run that goes on from a saved state.
 *
 * The state decides everything that its weights, its optimizer and its place in the data depend on; the rest (how long,
 * what to save, learning rates, where the files lie now, …) may change.
 *
 * @throws {DyloraError} `E_CONFIG` that names every option that may not change, with the saved and the given value
 */
export function resumeTrainConfig(saved: TrainConfig, overrides: TrainOverrides): TrainConfig {
  const given = readConfigObject({ command: "resume", table: TRAIN_OPTIONS }, overrides) as TrainOverrides;
  // A state of an older dylora does not have the options that came later.
  const asked = normalise({ ...defaultsOf(TRAIN_OPTIONS), ...saved, ...given });
  const differing = Object.entries<OptionSpec>(TRAIN_OPTIONS).flatMap(([name, spec]) => {
    const key = camelCase(name) as keyof TrainConfig;
    if (!spec.fixedOnResume || given[key] === undefined) return [];
    const before = JSON.stringify(saved[key]);
    const after = JSON.stringify(asked[key]);
    return before === after ? [] : [`${name} is ${before} in the state, ${after} was given`];
  });
  differing.push(...changedComponents(saved, asked));
  if (differing.length > 0) {
    throw new DyloraError("E_CONFIG", `resume: ${differing.join("; ")}`, {
      note: "The state was left as it is. Leave the option out to go on, or start a new run with `dylora train --network_weights FILE`.",
    });
  }
  // A new total in steps would have no effect while the saved run counts epochs.
  const countsSteps = given.maxTrainSteps !== undefined && given.maxTrainEpochs === undefined;
  const config = countsSteps ? { ...asked, maxTrainEpochs: null } : asked;
  validateTrainConfig(config);
  return config;
}

/** A learning rate of 0 takes a component out of the network, and the file of a run that goes on would lack it. */
function changedComponents(saved: TrainConfig, asked: TrainConfig): string[] {
  const [before, after] = [learningRatesOf(saved), learningRatesOf(asked)];
  const names = { unet: "U-Net", textEncoder: "text encoder" } as const;
  return (["unet", "textEncoder"] as const).flatMap((component) => {
    const was = before[component] !== null;
    if (was === (after[component] !== null)) return [];
    return [
      was
        ? `the state trains the ${names[component]}, and its learning rate would be 0`
        : `the state does not train the ${names[component]}, and its learning rate would no longer be 0`,
    ];
  });
}
