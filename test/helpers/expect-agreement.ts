/** Compares what two denoisers answer. */
import { expect } from "vitest";
import type { Denoiser } from "../../src/denoiser/denoiser.js";

type Answer = Awaited<ReturnType<Denoiser["inspect"]>>;

export interface Agreement {
  /** Largest error of the prediction, the hidden states, the losses and every gradient, relative to its norm. */
  tolerance: number;
  /** What the found gradients are multiples of; default 1. */
  gradientScale?: number;
}

export function expectAgreement(found: Answer, expected: Answer, agreement: Agreement): void {
  const { tolerance, gradientScale = 1 } = agreement;
  const compare = (of: string, ours: Float32Array, theirs: Float32Array, scale = 1) =>
    // A NaN fails.
    expect(relativeError(of, ours, theirs, scale), `relative error of ${of}`).toBeLessThan(tolerance);
  compare("prediction", found.prediction, expected.prediction);
  compare("context", found.context!, expected.context!);
  compare("loss", found.loss, expected.loss);
  expect([...found.gradients.keys()]).toEqual([...expected.gradients.keys()]);
  for (const [name, { down, up }] of expected.gradients) {
    compare(`gradient of ${name} down`, found.gradients.get(name)!.down, down, gradientScale);
    compare(`gradient of ${name} up`, found.gradients.get(name)!.up, up, gradientScale);
  }
}

/** @param scale - what `ours` is a multiple of */
function relativeError(of: string, ours: Float32Array, theirs: Float32Array, scale: number): number {
  expect(ours, of).toHaveLength(theirs.length);
  let difference = 0;
  let size = 0;
  for (const [index, value] of theirs.entries()) {
    difference += (ours[index]! / scale - value) ** 2;
    size += value ** 2;
  }
  return Math.sqrt(difference / size);
}
