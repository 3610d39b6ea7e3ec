/** Optimizers by the names and arguments of sd-scripts: `--optimizer_type AdamW --optimizer_args weight_decay=0.1`. */
import { DyloraError } from "../../errors.js";
import { KeyValues } from "../../options/key-values.js";
import { nearestName } from "../../options/nearest-name.js";
import { adamW } from "./adamw.js";
import { lion } from "./lion.js";
import type { Optimizer } from "./optimizer.js";
import { sgdNesterov } from "./sgd-nesterov.js";

const BUILDERS: Readonly<Record<string, (args: readonly string[]) => Optimizer>> = {
  AdamW: (args) => {
    const values = parse(args, ["betas", "eps", "weight_decay"]);
    return adamW({
      ...given("betas", readBetas(values)),
      ...given("eps", values.number("eps", { above: 0 })),
      ...given("weightDecay", values.number("weight_decay", { min: 0 })),
    });
  },
  Lion: (args) => {
    const values = parse(args, ["betas", "weight_decay"]);
    return lion({
      ...given("betas", readBetas(values)),
      ...given("weightDecay", values.number("weight_decay", { min: 0 })),
    });
  },
  SGDNesterov: (args) => {
    const values = parse(args, ["momentum", "weight_decay"]);
    return sgdNesterov({
      ...given("momentum", values.number("momentum", { above: 0, below: 1 })),
      ...given("weightDecay", values.number("weight_decay", { min: 0 })),
    });
  },
};

/** The values of `--optimizer_type` that are built. */
export const OPTIMIZER_NAMES: readonly string[] = Object.keys(BUILDERS);

/** Why the rest of sd-scripts' list is not here, by the pattern of the name. */
const ELSEWHERE: readonly (readonly [RegExp, string])[] = [
  [
    /8bit$|^paged/i,
    "It needs bitsandbytes (CUDA, Python) to save memory that a LoRA does not take: its moments are as small as the adapter itself.",
  ],
  [
    /^(prodigy|dadapt)/i,
    "It estimates one step size from all parameters together, which a DyLoRA step that trains some components misleads.",
  ],
  [
    /^adafactor/i,
    "It keeps one statistic per column for all components together, and DyLoRA needs them apart: a step trains only some.",
  ],
];

/**
 * The optimizer that `--optimizer_type` and `--optimizer_args` describe.
 *
 * @param type - case does not count; empty is AdamW, as in sd-scripts
 * @param args - `key=value` each
 * @throws {DyloraError} `E_CONFIG` for an optimizer that is not built, an unknown argument or a value out of range
 */
export function createOptimizer(type: string, args: readonly string[] = []): Optimizer {
  const wanted = type === "" ? "AdamW" : type;
  const name = OPTIMIZER_NAMES.find((known) => known.toLowerCase() === wanted.toLowerCase());
  if (name !== undefined) return BUILDERS[name]!(args);

  const reason = ELSEWHERE.find(([pattern]) => pattern.test(wanted))?.[1];
  const instead =
    nearestName(wanted, OPTIMIZER_NAMES) ?? nearestName(wanted.replace(/8bit$/i, ""), OPTIMIZER_NAMES);
  throw new DyloraError("E_CONFIG", `optimizer_type: ${wanted} is not built; use ${instead ?? "AdamW"}`, {
    note: reason ?? `Built are ${OPTIMIZER_NAMES.join(", ")}.`,
  });
}

function parse(args: readonly string[], known: readonly string[]): KeyValues {
  return KeyValues.parse("optimizer_args", args, known, {
    lr: "The learning rate is --learning_rate.",
  });
}

function readBetas(values: KeyValues): readonly [number, number] | null {
  const betas = values.numbers("betas", { min: 0, below: 1 });
  if (betas === null) return null;
  const [beta1, beta2, ...more] = betas;
  if (beta1 === undefined || beta2 === undefined || more.length > 0) {
    throw values.error(`betas must be two numbers, got ${betas.length}`, "For example: betas=0.9,0.999");
  }
  return [beta1, beta2];
}

/** `{ [key]: value }`, or nothing where the user gave none, so that the optimizer's default holds. */
function given<Key extends string, Value>(key: Key, value: Value | null): { [K in Key]?: Value } {
  return value === null ? {} : ({ [key]: value } as { [K in Key]?: Value });
}
