/** `--execution_mode auto`. */

import type { DeviceName } from "./device.js";
import { freeMemoryBytes } from "./free-memory.js";
import { type ExecutionMode, usableMode } from "./session.js";

/** A weight of the base model; only its size counts here. */
interface SizedWeight {
  readonly shape: readonly number[];
}

interface SizedModel {
  readonly weights: ReadonlyMap<string, SizedWeight>;
}

/**
 * Fast mode saves about a third of a step and costs about as much as so many steps when the session is made
 * (SD 1.5 at 256 px on two cores: 13 to 17 s against 2.2 s to create, 3.3 to 3.6 s against 5.6 s a step).
 */
const STEPS_THAT_PAY = 10;

/** Bytes that fast mode needs for each weight: float32, those of convolutions also transposed for the backward pass (SD 1.5: 6.6 at 256 px, 7.1 at 512). */
const FAST_BYTES_PER_WEIGHT = 7;
/** Room for activations and everything else beside the weights. */
const HEADROOM = 1.5;

/**
 * What the user chose, or for `auto`: fast where the run is long enough to pay for it and memory has room for the
 * prepared weights.
 */
export function chooseExecutionMode(
  choice: "auto" | ExecutionMode,
  device: DeviceName,
  run: { steps: number; weights: { unet: SizedModel; textEncoder: SizedModel }; freeBytes?: number },
): ExecutionMode {
  if (choice !== "auto") return usableMode(device, choice);
  const { steps, weights, freeBytes = freeMemoryBytes() } = run;
  const count = parameterCount(weights.unet) + parameterCount(weights.textEncoder);
  const fits = count * FAST_BYTES_PER_WEIGHT * HEADROOM < freeBytes;
  return usableMode(device, steps >= STEPS_THAT_PAY && fits ? "fast" : "lean");
}

function parameterCount({ weights }: SizedModel): number {
  let count = 0;
  for (const { shape } of weights.values()) count += shape.reduce((product, dim) => product * dim, 1);
  return count;
}
