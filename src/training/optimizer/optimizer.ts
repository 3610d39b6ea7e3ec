/**
 * Optimizers over the factors of LoRA modules, with their state per component.
 *
 * A factor is a matrix `[rank, width]` whose row k belongs to component k: `down` as it is (`width` = in * kernel height *
 * kernel width) and `up` transposed (`width` = out), so the components of any rank prefix are contiguous. DyLoRA gives
 * gradient to a different range of components in every step. A component without gradient is not touched: no decay, no
 * update of its moments, and its bias correction counts its own steps only.
 */
import type { ComponentRange } from "../../dylora/rank-plan.js";
import { internalError } from "../../errors.js";

/** What an optimizer remembers about one factor. */
export interface FactorState {
  /** Per element, `[rank, width]` each, by the names torch uses (`exp_avg`, …). */
  readonly slots: Readonly<Record<string, Float32Array>>;
  /** Per component, `[rank]`: the number of steps it has taken. */
  readonly steps: Uint32Array;
}

export interface FactorUpdate {
  /** The factor, `[rank, width]`; updated in place. */
  values: Float32Array;
  state: FactorState;
  /** The components that have a gradient. */
  rows: ComponentRange;
  /** `[rows.end - rows.begin, width]` */
  gradient: Float32Array;
  learningRate: number;
  /** Multiplies the gradient: clipping and the mean over micro-steps. Default 1. */
  gradientScale?: number;
}

export interface Optimizer {
  /** As `--optimizer_type` names it. */
  readonly name: string;
  /** Its settings as torch names them, defaults included, for metadata and logs. */
  readonly settings: Readonly<Record<string, number>>;
  /** Names of the float32 arrays it keeps per factor; each is as large as the factor. */
  readonly slotNames: readonly string[];
  step(update: FactorUpdate): void;
}

/**
 * The state of a factor that has taken no step.
 *
 * @param slots - an array of zeros for each of the optimizer's; default: new ones
 */
export function createFactorState(
  optimizer: Optimizer,
  rank: number,
  width: number,
  slots: readonly Float32Array[] = optimizer.slotNames.map(() => new Float32Array(rank * width)),
): FactorState {
  const named = optimizer.slotNames.map((name, index) => [name, slots[index]!]);
  return { slots: Object.fromEntries(named), steps: new Uint32Array(rank) };
}

/** Rows that have taken the same number of steps, cut out of every array of a factor. */
export interface RowRun {
  values: Float32Array;
  gradient: Float32Array;
  slots: Float32Array[];
  /** Steps of these rows, this one included. */
  step: number;
}

/** Counts the step and hands out the touched rows, as few and as long runs as possible. */
export function* touchedRuns(update: FactorUpdate, slotNames: readonly string[]): Generator<RowRun> {
  const { values, gradient, rows, state } = update;
  const { begin, end } = rows;
  const rank = state.steps.length;
  const width = values.length / rank;
  if (!(begin >= 0 && begin <= end && end <= rank) || gradient.length !== (end - begin) * width) {
    throw internalError(
      `optimizer step: ${gradient.length} gradients for components ${begin} to ${end} of [${rank}, ${width}]`,
    );
  }
  const slots = slotNames.map((name) => {
    const slot = state.slots[name];
    if (slot?.length !== values.length)
      throw internalError(`optimizer step: no slot ${name} of this factor's size`);
    return slot;
  });
  for (let from = begin; from < end; ) {
    const count = state.steps[from]!;
    let to = from;
    for (; to < end && state.steps[to] === count; to++) state.steps[to] = count + 1;
    const [first, last] = [from * width, to * width];
    yield {
      values: values.subarray(first, last),
      gradient: gradient.subarray(first - begin * width, last - begin * width),
      slots: slots.map((slot) => slot.subarray(first, last)),
      step: count + 1,
    };
    from = to;
  }
}
