/** Relative errors by kind, and whether they stay within the tolerances of the golden data. */

export const KINDS = ["output", "loss", "gradient"] as const;
export type Kind = (typeof KINDS)[number];

/** `norm(ours - reference) / norm(reference)` that still counts as parity, from the README of the golden data. */
export const TOLERANCES: Readonly<Record<Kind, number>> = { output: 2e-5, loss: 1e-5, gradient: 1e-4 };

/** The same for a model that computes in float16: `--mixed_precision fp16`. */
export const HALF_TOLERANCES: Readonly<Record<Kind, number>> = { output: 2e-2, loss: 2e-2, gradient: 2e-2 };

/** Gradients with a smaller root mean square are rounding noise in the reference itself. */
const SMALLEST_GRADIENT_RMS = 1e-9;

export interface WorstError {
  error: number;
  /** The tensor, with its folder and source. */
  at: string;
  compared: number;
}

export class WorstErrors {
  readonly worst: Record<Kind, WorstError> = {
    output: { error: 0, at: "", compared: 0 },
    loss: { error: 0, at: "", compared: 0 },
    gradient: { error: 0, at: "", compared: 0 },
  };

  add(kind: Kind, at: string, ours: Float32Array, reference: Float32Array): void {
    if (kind === "gradient" && rootMeanSquare(reference) < SMALLEST_GRADIENT_RMS) return;
    const error = relativeError(ours, reference);
    const worst = this.worst[kind];
    worst.compared++;
    // Not "error > worst": a NaN must win, and stay.
    if (!Number.isNaN(worst.error) && !(error <= worst.error)) Object.assign(worst, { error, at });
  }

  within(tolerances: Readonly<Record<Kind, number>>): boolean {
    return KINDS.every((kind) => this.worst[kind].error <= tolerances[kind]);
  }
}

function relativeError(ours: Float32Array, reference: Float32Array): number {
  if (ours.length !== reference.length) return Number.POSITIVE_INFINITY;
  let difference = 0;
  let size = 0;
  for (const [index, expected] of reference.entries()) {
    difference += (ours[index]! - expected) ** 2;
    size += expected ** 2;
  }
  return difference === 0 ? 0 : Math.sqrt(difference / size);
}

function rootMeanSquare(values: Float32Array): number {
  return Math.sqrt(values.reduce((total, value) => total + value * value, 0) / values.length);
}
