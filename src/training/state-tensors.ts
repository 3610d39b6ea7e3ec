/** The tensors of a training state: every factor with what the optimizer remembers about it. */
import { DyloraError } from "../errors.js";
import type { FactorState } from "./optimizer/index.js";

/** A named array of the state; kept in memory as it is, never copied. */
export interface StateTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Float32Array | Uint32Array;
}

/** Arrays of a state by name, as read. */
export type StateTensors = ReadonlyMap<string, Float32Array | Uint32Array>;

/**
 * The tensors of one factor: `NAME` the values, `NAME.exp_avg` (or whatever the optimizer keeps) its slots, all float32
 * `[rank, width]`, and `NAME.steps` the step counts, `[rank]`.
 *
 * @param name - unique in the state: module and factor, `lora_unet_….lora_down`
 */
export function factorTensors(name: string, values: Float32Array, state: FactorState): StateTensor[] {
  const rank = state.steps.length;
  const shape = [rank, values.length / rank];
  return [
    { name, shape, data: values },
    ...Object.entries(state.slots).map(([slot, data]) => ({ name: `${name}.${slot}`, shape, data })),
    { name: `${name}.steps`, shape: [rank], data: state.steps },
  ];
}

/**
 * Fills a factor and its optimizer state from what was read: the inverse of `factorTensors`, into arrays that were
 * made for the run that goes on.
 *
 * @throws {DyloraError} `E_INCOMPATIBLE` where the state lacks an array or has it in another size; nothing is filled then
 */
export function restoreFactor(
  tensors: StateTensors,
  name: string,
  values: Float32Array,
  state: FactorState,
): void {
  const targets = factorTensors(name, values, state);
  for (const { name: key, data } of targets) {
    const saved = tensors.get(key);
    if (saved?.length !== data.length || saved.constructor !== data.constructor) {
      const found = saved === undefined ? "nothing" : `${saved.length} ${typeName(saved)}`;
      throw new DyloraError(
        "E_INCOMPATIBLE",
        `resume: ${key}: expected ${data.length} ${typeName(data)}, the state has ${found}`,
        { note: "The state belongs to another network. Nothing was changed." },
      );
    }
  }
  for (const { name: key, data } of targets) data.set(tensors.get(key)!);
}

function typeName(array: Float32Array | Uint32Array): string {
  return array instanceof Float32Array ? "float32 values" : "counts";
}
