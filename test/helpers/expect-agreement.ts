/** Compares what two denoisers answer. */
import { expect } from "vitest";
import type { Denoiser } from "../../src/denoiser/denoiser.js";

type Answer = Awaited<ReturnType<Denoiser["inspect"]>>;

export interface Agreement {
  /** Largest error of the prediction, the hidden states, the losses and all gradients together, relative to its norm. */
  tolerance: number;
  /** The same of each single gradient; default `tolerance`. Small ones are what is left when large numbers cancel. */
  eachGradient?: number;
  /** What the found gradients are multiples of; default 1. */
  gradientScale?: number;
}

export function expectAgreement(found: Answer, expected: Answer, agreement: Agreement): void {
  const { tolerance, eachGradient = tolerance, gradientScale = 1 } = agreement;
  const together = { difference: 0, size: 0 };
  const gradient = (of: string, ours: Float32Array, theirs: Float32Array) => {
    const { difference, size } = distance(of, ours, theirs, gradientScale);
    together.difference += difference;
    together.size += size;
    expectSmall(of, difference, size, eachGradient);
  };
  const output = (of: string, ours: Float32Array, theirs: Float32Array) => {
    const { difference, size } = distance(of, ours, theirs, 1);
    expectSmall(of, difference, size, tolerance);
  };
  output("prediction", found.prediction, expected.prediction);
  output("context", found.context!, expected.context!);
  output("loss", found.loss, expected.loss);
  expect([...found.gradients.keys()]).toEqual([...expected.gradients.keys()]);
  for (const [name, { down, up }] of expected.gradients) {
    gradient(`gradient of ${name} down`, found.gradients.get(name)!.down, down);
    gradient(`gradient of ${name} up`, found.gradients.get(name)!.up, up);
  }
  expectSmall("all gradients", together.difference, together.size, tolerance);
}

/** Sums of squares. */
function distance(of: string, ours: Float32Array, theirs: Float32Array, scale: number) {
  expect(ours, of).toHaveLength(theirs.length);
  let difference = 0;
  let size = 0;
  for (const [index, value] of theirs.entries()) {
    difference += (ours[index]! / scale - value) ** 2;
    size += value ** 2;
  }
  return { difference, size };
}

/** A NaN fails. */
function expectSmall(of: string, difference: number, size: number, tolerance: number): void {
  expect(Math.sqrt(difference / size), `relative error of ${of}`).toBeLessThan(tolerance);
}
