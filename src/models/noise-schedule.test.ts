import { describe, expect, test } from "vitest";
import {
  addNoise,
  createNoiseSchedule,
  minSnrWeight,
  rescaleZeroTerminalSnr,
  snr,
  velocityTarget,
} from "./noise-schedule.js";

function expectClose(found: Iterable<number>, expected: readonly number[], digits: number): void {
  const values = [...found];
  expect(values).toHaveLength(expected.length);
  for (const [i, value] of expected.entries()) expect(values[i], `value ${i}`).toBeCloseTo(value, digits);
}

describe("Stable Diffusion's schedule", () => {
  const schedule = createNoiseSchedule();

  test("starts and ends at the published variances", () => {
    expect(schedule.steps).toBe(1000);
    expect(schedule.betas[0]).toBeCloseTo(0.00085, 15);
    expect(schedule.betas[999]).toBeCloseTo(0.012, 15);
    // Scaled linear: the root of the middle is the mean of the roots.
    const middle = (Math.sqrt(0.00085) + Math.sqrt(0.012)) / 2;
    expect((Math.sqrt(schedule.betas[499]!) + Math.sqrt(schedule.betas[500]!)) / 2).toBeCloseTo(middle, 14);
  });

  test("leaves the published share of signal", () => {
    expect(schedule.alphasCumprod[0]).toBeCloseTo(0.99915, 15);
    // (1 - 0.00085) (1 - (sqrt(0.00085) + (sqrt(0.012) - sqrt(0.00085)) / 999)^2)
    expect(schedule.alphasCumprod[1]).toBeCloseTo(0.998296, 6);
    // Known from every implementation: 0.0047 of the variance is left at the end.
    expect(schedule.alphasCumprod[999]).toBeCloseTo(0.00466, 5);
    expect(schedule.alphasCumprod.every((value, t, all) => t === 0 || value < all[t - 1]!)).toBe(true);
  });

  test("signal-to-noise ratio", () => {
    expect(snr(schedule, 0)).toBeCloseTo(0.99915 / 0.00085, 6);
    expect(snr(schedule, 999)).toBeCloseTo(0.00466 / 0.99534, 5);
  });
});

describe("a schedule of two steps, by hand", () => {
  // betas 0.36 and 0.75: signal left 0.64, then 0.16, so roots 0.8 and 0.4.
  const schedule = createNoiseSchedule({ steps: 2, betaStart: 0.36, betaEnd: 0.75 });
  const latents = Float32Array.of(1, 2, 3, 4);
  const noise = Float32Array.of(10, 0, -5, 0);

  test("signal left", () => {
    expect(schedule.alphasCumprod[0]).toBeCloseTo(0.64, 12);
    expect(schedule.alphasCumprod[1]).toBeCloseTo(0.16, 12);
    expect(snr(schedule, 1)).toBeCloseTo(0.16 / 0.84, 12);
  });

  test("noisy latents, one timestep per sample", () => {
    const noisy = addNoise(schedule, latents, noise, [0, 1]);
    const root = Math.sqrt(0.84);
    expectClose(noisy, [0.8 + 6, 1.6, 1.2 - 5 * root, 1.6], 6);
  });

  test("velocity", () => {
    const velocity = velocityTarget(schedule, latents, noise, [0, 1]);
    const root = Math.sqrt(0.84);
    expectClose(velocity, [8 - 0.6, -1.2, -2 - 3 * root, -4 * root], 6);
  });

  test("noisy latents and velocity give signal and noise back", () => {
    const noisy = addNoise(schedule, latents, noise, [0, 0]);
    const velocity = velocityTarget(schedule, latents, noise, [0, 0]);
    // x_0 = alpha x_t - sigma v, noise = sigma x_t + alpha v.
    expectClose(
      noisy.map((x, i) => 0.8 * x - 0.6 * velocity[i]!),
      [...latents],
      5,
    );
    expectClose(
      noisy.map((x, i) => 0.6 * x + 0.8 * velocity[i]!),
      [...noise],
      5,
    );
  });

  test("zero terminal SNR: first root kept, last root 0", () => {
    const rescaled = rescaleZeroTerminalSnr(schedule);
    expect(rescaled.alphasCumprod[0]).toBeCloseTo(0.64, 12);
    expect(rescaled.alphasCumprod[1]).toBe(0);
    expect(rescaled.betas[0]).toBeCloseTo(0.36, 12);
    expect(rescaled.betas[1]).toBe(1);
    expect(snr(rescaled, 1)).toBe(0);
    expect(addNoise(rescaled, latents, noise, [1, 1])).toEqual(noise);
  });

  test("rejects what cannot be a batch", () => {
    expect(() => addNoise(schedule, latents, noise.subarray(1), [0])).toThrow(/internal/);
    expect(() => addNoise(schedule, latents, noise, [0, 0, 0])).toThrow(/internal/);
    expect(() => addNoise(schedule, latents, noise, [2])).toThrow(/timestep/);
    expect(() => snr(schedule, 0.5)).toThrow(/timestep/);
  });
});

test("zero terminal SNR in between: the roots move linearly", () => {
  const schedule = createNoiseSchedule();
  const rescaled = createNoiseSchedule({ zeroTerminalSnr: true });
  const root = (values: Float64Array, t: number) => Math.sqrt(values[t]!);
  const [first, last] = [0, 999].map((t) => root(schedule.alphasCumprod, t)) as [number, number];
  const expected = ((root(schedule.alphasCumprod, 500) - last) * first) / (first - last);
  expect(root(rescaled.alphasCumprod, 500)).toBeCloseTo(expected, 12);
  // The betas belong to the new products.
  const product = rescaled.betas.slice(0, 501).reduce((value, beta) => value * (1 - beta), 1);
  expect(product).toBeCloseTo(rescaled.alphasCumprod[500]!, 12);
});

describe("min-SNR weights", () => {
  // One step with beta 0.1: SNR 0.9 / 0.1 = 9. One with beta 0.5: SNR 1.
  const high = createNoiseSchedule({ steps: 1, betaStart: 0.1 });
  const low = createNoiseSchedule({ steps: 1, betaStart: 0.5 });

  test("noise prediction: min(snr, gamma) / snr", () => {
    expect(minSnrWeight(high, 0, 5, "epsilon")).toBeCloseTo(5 / 9, 12);
    expect(minSnrWeight(low, 0, 5, "epsilon")).toBe(1);
  });

  test("velocity prediction: min(snr, gamma) / (snr + 1)", () => {
    expect(minSnrWeight(high, 0, 5, "v_prediction")).toBeCloseTo(5 / 10, 12);
    expect(minSnrWeight(low, 0, 5, "v_prediction")).toBeCloseTo(1 / 2, 12);
  });

  test("pure noise has a finite weight", () => {
    const schedule = createNoiseSchedule({ zeroTerminalSnr: true });
    expect(minSnrWeight(schedule, 999, 5, "epsilon")).toBe(1);
    expect(minSnrWeight(schedule, 999, 5, "v_prediction")).toBe(0);
  });
});
