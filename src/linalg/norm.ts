import { address, kernels, workspace } from "./kernels.js";
import { LANES, roundUp } from "./layout.js";
import type { Values } from "./matrix.js";

/** Factors of adapters are float32, so that no square of theirs overflows or vanishes in float64. */
export function frobeniusNorm(values: Values): number {
  const { length } = values;
  if (length === 0) return 0;
  const padded = roundUp(length, LANES);
  const memory = workspace(padded);
  memory.set(values);
  memory.fill(0, length, padded);
  return Math.sqrt(kernels.dot(0, address(padded), 0));
}
