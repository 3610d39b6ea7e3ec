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
 * Fast mode saves about a third of a step and costs about as much as this many steps when the session is made
 * (SD 1.5 at 256 px on two cores: 14 s against 0.7 s to create, 2.7 s against 4.2 s a step).
 */
const STEPS_THAT_PAY = 10;

/** Bytes that fast mode needs for each weight: float32, those of convolutions also transposed for the backward pass (6.5 in SD 1.5). */
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

/** The modes of a run over several image sizes. */
export interface SizeModes {
  /** Of every size that is not named below. */
  readonly mode: ExecutionMode;
  /** Sizes that are lean although the others are fast, as `768x512` (width, height in pixels). */
  readonly leanSizes: readonly string[];
}

/** Width and height in pixels. */
interface Size {
  readonly width: number;
  readonly height: number;
}

export function modeOf({ mode, leanSizes }: SizeModes, { width, height }: Size): ExecutionMode {
  return leanSizes.includes(`${width}x${height}`) ? "lean" : mode;
}

/**
 * What the user chose, or for `auto`, size by size: every fast session holds prepared weights of its own, so of the sizes that
 * have the most steps as many are fast as fit into memory side by side and are used often enough to pay for it; the others
 * are lean and share the weights that are mapped from the file.
 *
 * @param run.sizes - at least one; `steps` is the number of executions at that size
 */
export function chooseSizeModes(
  choice: "auto" | ExecutionMode,
  device: DeviceName,
  run: {
    sizes: readonly (Size & { readonly steps: number })[];
    weights: { unet: SizedModel; textEncoder: SizedModel };
    freeBytes?: number;
  },
): SizeModes {
  const { weights, freeBytes = freeMemoryBytes() } = run;
  const bySteps = [...run.sizes].sort((a, b) => b.steps - a.steps);
  const modes = bySteps.map(({ steps }, index) =>
    // Each in what the sessions before it leave.
    chooseExecutionMode(choice, device, { steps, weights, freeBytes: freeBytes / (index + 1) }),
  );
  const lean = bySteps.filter((_, index) => modes[index] === "lean");
  if (lean.length === bySteps.length) return { mode: "lean", leanSizes: [] };
  return { mode: "fast", leanSizes: lean.map(({ width, height }) => `${width}x${height}`) };
}

function parameterCount({ weights }: SizedModel): number {
  let count = 0;
  for (const { shape } of weights.values()) count += shape.reduce((product, dim) => product * dim, 1);
  return count;
}
