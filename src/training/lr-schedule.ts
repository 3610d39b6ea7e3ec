/**
 * Learning-rate schedules under the names of sd-scripts, with the values of diffusers and transformers.
 *
 * A schedule is a pure function of the step; nothing is carried along. sd-scripts instead restores a scheduler that was
 * built for the old total, so a run that is resumed past it trains on with a learning rate of 0 and changes nothing
 * (sd-scripts#141). Here a resumed run builds its schedule for the total it is going to, and the learning rate goes on at
 * the point of the new curve; within one total it is exactly what an uninterrupted run would have had.
 */
import { DyloraError } from "../errors.js";
import { KeyValues } from "../options/key-values.js";

export const LR_SCHEDULER_NAMES = [
  "constant",
  "constant_with_warmup",
  "linear",
  "cosine",
  "cosine_with_restarts",
  "polynomial",
  "piecewise_constant",
  "inverse_sqrt",
  "cosine_with_min_lr",
  "warmup_stable_decay",
] as const;

export type LrSchedulerName = (typeof LR_SCHEDULER_NAMES)[number];

export interface LrScheduleOptions {
  name: LrSchedulerName;
  /** Optimizer steps of the whole run (`--max_train_steps`). */
  totalSteps: number;
  /** `--lr_warmup_steps`: a number of steps, or a share of all steps below 1. Default 0. */
  warmupSteps?: number;
  /** `--lr_decay_steps`, likewise; `warmup_stable_decay` only. Default 0. */
  decaySteps?: number;
  /** `--lr_scheduler_num_cycles`: restarts + 1, or half waves of `cosine_with_min_lr` and `warmup_stable_decay`. Default 1. */
  numCycles?: number;
  /** `--lr_scheduler_power` of `polynomial`. Default 1. */
  power?: number;
  /** `--lr_scheduler_timescale` of `inverse_sqrt`. Default: the warm-up, or 10,000 without one. */
  timescale?: number | null;
  /** `--lr_scheduler_min_lr_ratio` of `cosine_with_min_lr` (required) and `warmup_stable_decay` (0). */
  minLrRatio?: number | null;
  /** `--learning_rate`: `polynomial` ends at an absolute rate. */
  learningRate: number;
  /** `--lr_scheduler_args`, `key=value` each. */
  args?: readonly string[];
}

/**
 * The factor on every learning rate in a step.
 *
 * @param step - optimizer steps done so far: 0 for the first step of a run. A warm-up therefore starts at 0, as in diffusers.
 */
export type LrSchedule = (step: number) => number;

/** The keys of `--lr_scheduler_args` by scheduler; sd-scripts passes them to the function of that name in diffusers or transformers. */
const ARGUMENT_KEYS: Partial<Record<LrSchedulerName, readonly string[]>> = {
  cosine: ["num_cycles"],
  polynomial: ["lr_end"],
  piecewise_constant: ["step_rules"],
  cosine_with_min_lr: ["min_lr"],
  warmup_stable_decay: ["warmup_type", "decay_type"],
};

/** Where `polynomial` ends, as in diffusers. */
const DEFAULT_POLYNOMIAL_END = 1e-7;
/** `inverse_sqrt` without warm-up, as in transformers. */
const DEFAULT_TIMESCALE = 10_000;

/** A `--lr_warmup_steps` or `--lr_decay_steps`: below 1 a share of all steps, rounded down, else a number of steps. */
export function stepCount(stepsOrShare: number, totalSteps: number): number {
  return stepsOrShare < 1 ? Math.floor(stepsOrShare * totalSteps) : stepsOrShare;
}

/**
 * Builds the schedule of a run.
 *
 * @throws {DyloraError} `E_CONFIG` for options that the scheduler does not take or that do not fit together
 */
export function createLrSchedule(options: LrScheduleOptions): LrSchedule {
  const { name, totalSteps, numCycles = 1, power = 1, learningRate } = options;
  const args = KeyValues.parse("lr_scheduler_args", options.args ?? [], ARGUMENT_KEYS[name] ?? []);
  const warmup = stepCount(options.warmupSteps ?? 0, totalSteps);
  if (warmup > totalSteps) {
    throw new DyloraError(
      "E_CONFIG",
      `lr_warmup_steps: ${warmup} steps do not fit into ${totalSteps} training steps`,
      {
        note: "The learning rate would never reach its full height. Give a share of all steps instead, for example 0.1.",
      },
    );
  }
  if (warmup > 0 && (name === "constant" || name === "piecewise_constant")) {
    throw new DyloraError("E_CONFIG", `lr_warmup_steps: lr_scheduler ${name} has no warm-up`, {
      note:
        name === "constant"
          ? "Use --lr_scheduler constant_with_warmup, or leave lr_warmup_steps out."
          : "Put the warm-up into step_rules, or leave lr_warmup_steps out.",
    });
  }
  const warmed = (after: LrSchedule): LrSchedule => {
    return (step) => (step < warmup ? step / warmup : after(step));
  };
  const decaySteps = Math.max(1, totalSteps - warmup);
  /** 0 at the end of the warm-up, 1 at the end of the run. */
  const progress = (step: number): number => (step - warmup) / decaySteps;

  switch (name) {
    case "constant":
      return () => 1;
    case "constant_with_warmup":
      return warmed(() => 1);
    case "linear":
      return warmed((step) => Math.max(0, (totalSteps - step) / decaySteps));
    case "cosine": {
      const waves = args.number("num_cycles", { above: 0 }) ?? 0.5;
      return warmed((step) => Math.max(0, cosineWave(waves * progress(step))));
    }
    case "cosine_with_restarts":
      return warmed((step) => {
        const done = progress(step);
        return done >= 1 ? 0 : Math.max(0, cosineWave(((numCycles * done) % 1) / 2));
      });
    case "polynomial": {
      const end = args.number("lr_end", { min: 0 }) ?? DEFAULT_POLYNOMIAL_END;
      if (learningRate <= end) {
        throw new DyloraError(
          "E_CONFIG",
          `lr_scheduler polynomial: learning_rate ${learningRate} is not above its end ${end}`,
          {
            note: "Raise --learning_rate, or lower the end with --lr_scheduler_args lr_end=0.",
          },
        );
      }
      return warmed((step) => {
        const rest = Math.max(0, 1 - progress(step));
        return ((learningRate - end) * rest ** power + end) / learningRate;
      });
    }
    case "piecewise_constant":
      return piecewiseConstant(args);
    case "inverse_sqrt": {
      const timescale = options.timescale ?? (warmup || DEFAULT_TIMESCALE);
      return warmed((step) => 1 / Math.sqrt((step + timescale - warmup) / timescale));
    }
    case "cosine_with_min_lr": {
      const ratio = minimumRatio(args, options);
      return warmed((step) => Math.max(0, liftTo(ratio, cosineWave((numCycles / 2) * progress(step)))));
    }
    case "warmup_stable_decay":
      return warmupStableDecay(args, options, warmup);
  }
}

/** 1 at 0, falling to 0 at half a wave and rising again to 1 at a whole one. */
function cosineWave(waves: number): number {
  return 0.5 * (1 + Math.cos(2 * Math.PI * waves));
}

/** Maps 0 to 1 linearly onto `minimum` to 1. */
function liftTo(minimum: number, factor: number): number {
  return factor * (1 - minimum) + minimum;
}

/** `1:10,0.1:20,0.01`: factor 1 before step 10, 0.1 before step 20, then 0.01. */
function piecewiseConstant(args: KeyValues): LrSchedule {
  // sd-scripts evaluates the value as Python, where a text stands in quotes.
  const text = args.text("step_rules")?.replace(/^(['"])(.*)\1$/, "$2");
  const example = "For example: --lr_scheduler_args step_rules=1:1000,0.1:1500,0.01";
  if (text === undefined) throw args.error("lr_scheduler piecewise_constant needs step_rules", example);
  const parts = text.split(",");
  const last = parts.pop()!;
  const numberOf = (part: string): number => {
    const value = part.trim() === "" ? Number.NaN : Number(part);
    if (!(value >= 0 && Number.isFinite(value)))
      throw args.error(`step_rules: "${part}" is no number from 0`, example);
    return value;
  };
  const rules = parts.map((part) => {
    const [factor, until, ...more] = part.split(":");
    if (until === undefined || more.length > 0) {
      throw args.error(`step_rules: "${part}" is not of the form factor:step`, example);
    }
    return { factor: numberOf(factor!), until: numberOf(until) };
  });
  rules.sort((a, b) => a.until - b.until);
  const lastFactor = numberOf(last);
  return (step) => rules.find(({ until }) => step < until)?.factor ?? lastFactor;
}

function minimumRatio(args: KeyValues, { minLrRatio = null, learningRate }: LrScheduleOptions): number {
  const minimum = args.number("min_lr", { min: 0 });
  if (minimum !== null && minLrRatio !== null) {
    throw args.error("min_lr is given together with lr_scheduler_min_lr_ratio", "Keep one of them.");
  }
  const ratio = minimum === null ? minLrRatio : minimum / learningRate;
  if (ratio === null) {
    throw new DyloraError("E_CONFIG", "lr_scheduler cosine_with_min_lr needs lr_scheduler_min_lr_ratio", {
      note: "For example --lr_scheduler_min_lr_ratio 0.1: the learning rate falls to a tenth.",
    });
  }
  return ratio;
}

const RAMPS = ["linear", "cosine", "1-sqrt"] as const;

/** Falls from 1 at `progress` 0 to 0 at 1 (`cosine`: after half a cycle). */
function ramp(type: (typeof RAMPS)[number], progress: number, halfCycles: number): number {
  switch (type) {
    case "linear":
      return 1 - progress;
    case "cosine":
      return cosineWave((halfCycles / 2) * progress);
    case "1-sqrt":
      return 1 - Math.sqrt(progress);
  }
}

function warmupStableDecay(args: KeyValues, options: LrScheduleOptions, warmup: number): LrSchedule {
  const { totalSteps, numCycles = 1, minLrRatio } = options;
  const minimum = minLrRatio ?? 0;
  const decay = stepCount(options.decaySteps ?? 0, totalSteps);
  const warmupType = args.choice("warmup_type", RAMPS) ?? "linear";
  const decayType = args.choice("decay_type", RAMPS) ?? "cosine";
  const decayBegin = totalSteps - decay;
  if (decayBegin < warmup) {
    throw new DyloraError(
      "E_CONFIG",
      `lr_decay_steps: ${warmup} steps of warm-up and ${decay} of decay do not fit into ${totalSteps} training steps`,
    );
  }
  return (step) => {
    // The warm-up is a decay seen in a mirror; its cosine is always half a wave.
    if (step < warmup) return liftTo(minimum, ramp(warmupType, (warmup - step) / warmup, 1));
    if (step < decayBegin) return 1;
    if (step < totalSteps)
      return Math.max(0, liftTo(minimum, ramp(decayType, (step - decayBegin) / decay, numCycles)));
    return minimum;
  };
}
