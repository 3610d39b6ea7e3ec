/** Compares what two denoisers answer. */
import { expect } from "vitest";
import type { Denoiser } from "../../src/denoiser/denoiser.js";

export type Answer = Awaited<ReturnType<Denoiser["inspect"]>>;

/**
 * Prediction, hidden states, losses and every gradient within `tolerance`, relative to the norm of each.
 *
 * @param gradientScale - what the found gradients are multiples of
 */
export function expectAgreement(found: Answer, expected: Answer, tolerance: number, gradientScale = 1): void {
  const worst = { error: 0, of: "" };
  const compare = (of: string, ours: Float32Array, theirs: Float32Array, scale = 1) => {
    expect(ours, of).toHaveLength(theirs.length);
    let difference = 0;
    let size = 0;
    for (const [index, value] of theirs.entries()) {
      difference += (ours[index]! / scale - value) ** 2;
      size += value ** 2;
    }
    const error = Math.sqrt(difference / size);
    // Written so that a NaN is the worst.
    if (!(error <= worst.error)) Object.assign(worst, { error, of });
  };
  compare("prediction", found.prediction, expected.prediction);
  compare("context", found.context!, expected.context!);
  compare("loss", found.loss, expected.loss);
  expect([...found.gradients.keys()]).toEqual([...expected.gradients.keys()]);
  for (const [name, { down, up }] of expected.gradients) {
    compare(`${name} down`, found.gradients.get(name)!.down, down, gradientScale);
    compare(`${name} up`, found.gradients.get(name)!.up, up, gradientScale);
  }
  expect(worst.error, worst.of).toBeLessThan(tolerance);
}
