import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createNoiseSchedule } from "../models/noise-schedule.js";
import { randomStream } from "../random/stream.js";
import { noiseLevels } from "./noise-levels.js";
import { SAMPLER_NAMES, type SamplerName } from "./sampler-names.js";
import {
  cleanLatents,
  createStepper,
  guidedPrediction,
  modelInput,
  type SamplerStep,
  startLatents,
} from "./samplers.js";

const noNoise = (): never => {
  throw new Error("no noise belongs to this step");
};

/** One step on a single number. */
const step = (
  name: SamplerName,
  values: { x: number; x0: number; sigma: number; nextSigma: number },
  noise: SamplerStep["noise"] = noNoise,
) =>
  createStepper(name)({
    ...values,
    x: Float64Array.of(values.x),
    x0: Float64Array.of(values.x0),
    noise,
  })[0]!;

describe("steps, against values computed by hand", () => {
  test("DDIM: eq. 12 of arXiv:2010.02502 with sigma_t = 0", () => {
    // From abar = 0.25 to abar' = 0.64, z = 1, predicted noise e = 0.5.
    // Predicted x0 = (z - sqrt(0.75) e) / sqrt(0.25) = (1 - 0.8660254 * 0.5) / 0.5 = 1.1339746.
    // z' = sqrt(0.64) x0 + sqrt(0.36) e = 0.8 * 1.1339746 + 0.6 * 0.5 = 1.2071797.
    const [abar, nextAbar, z, noise] = [0.25, 0.64, 1, 0.5];
    const sigma = Math.sqrt((1 - abar) / abar); // sqrt(3)
    const x = Float64Array.of(z / Math.sqrt(abar)); // 2
    const [x0] = cleanLatents("epsilon", x, Float64Array.of(noise), sigma);
    expect(x0).toBeCloseTo(1.1339746, 7);
    const next = step("ddim", { x: 2, x0: x0!, sigma, nextSigma: 0.75 }); // sqrt(0.36 / 0.64)
    expect(next * Math.sqrt(nextAbar)).toBeCloseTo(1.2071797, 7);
  });

  test("Euler: algorithm 1 of arXiv:2206.00364, lines 4 and 5", () => {
    // d = (x - D) / sigma = (3 - 1) / 2 = 1; x' = x + (0.5 - 2) d = 1.5.
    expect(step("euler", { x: 3, x0: 1, sigma: 2, nextSigma: 0.5 })).toBe(1.5);
    // To sigma = 0: what the model takes for clean.
    expect(step("euler", { x: 3, x0: 1, sigma: 2, nextSigma: 0 })).toBe(1);
  });

  test("Euler ancestral: fresh noise of variance next^2 (sigma^2 - next^2) / sigma^2", () => {
    // sigma = 2, next = 1: up^2 = 1 * 3 / 4, down = sqrt(1 - 0.75) = 0.5.
    // x + (0.5 - 2) (3 - 1) / 2 = 1.5, and sqrt(0.75) * 0.4 = 0.3464102 of noise.
    const noise = () => Float64Array.of(0.4);
    expect(step("euler_a", { x: 3, x0: 1, sigma: 2, nextSigma: 1 }, noise)).toBeCloseTo(1.8464102, 7);
    // The last step draws nothing.
    expect(step("euler_a", { x: 3, x0: 1, sigma: 2, nextSigma: 0 })).toBe(1);
  });

  test("DPM-Solver++(2M): algorithm 2 of arXiv:2211.01095", () => {
    const stepper = createStepper("dpmsolver++");
    const next = (x: number, x0: number, sigma: number, nextSigma: number) =>
      stepper({ x: Float64Array.of(x), x0: Float64Array.of(x0), sigma, nextSigma, noise: noNoise })[0]!;
    // First step, h = log 2, e^-h = 0.5, D = x0 = 1: 0.5 * 5 + 0.5 * 1 = 3.
    expect(next(5, 1, 4, 2)).toBe(3);
    // h = log 2 again, r = 1: D = 1.5 + (1.5 - 1) / 2 = 1.75; 0.5 * 3 + 0.5 * 1.75 = 2.375.
    expect(next(3, 1.5, 2, 1)).toBeCloseTo(2.375, 12);
    // h = log 4, r = log 2 / log 4 = 0.5: D = 1.25 + (1.25 - 1.5) / 1 = 1; 0.25 * 2.375 + 0.75 * 1 = 1.34375.
    expect(next(2.375, 1.25, 1, 0.25)).toBeCloseTo(1.34375, 12);
    // To sigma = 0.
    expect(next(1.34375, 1.1, 0.25, 0)).toBeCloseTo(1.1, 12);
  });
});

const level = fc.double({ min: 0.02, max: 20, noNaN: true });
const value = fc.double({ min: -10, max: 10, noNaN: true });

describe("predictions", () => {
  test("noise and velocity of the same latents mean the same clean latents", () => {
    fc.assert(
      fc.property(level, value, value, (sigma, clean, noise) => {
        const [signal, share] = [1 / Math.sqrt(1 + sigma ** 2), sigma / Math.sqrt(1 + sigma ** 2)];
        const x = Float64Array.of(clean + sigma * noise);
        const velocity = Float64Array.of(signal * noise - share * clean);
        expect(cleanLatents("epsilon", x, Float64Array.of(noise), sigma)[0]).toBeCloseTo(clean, 9);
        expect(cleanLatents("v_prediction", x, velocity, sigma)[0]).toBeCloseTo(clean, 9);
      }),
    );
  });

  test("guidance goes from the negative prompt through the prompt and beyond", () => {
    const [positive, negative] = [Float32Array.of(1, -2), Float32Array.of(0.5, 2)];
    expect([...guidedPrediction(positive, negative, 1)]).toEqual([1, -2]);
    expect([...guidedPrediction(positive, negative, 0)]).toEqual([0.5, 2]);
    expect([...guidedPrediction(positive, negative, 3)]).toEqual([2, -10]);
  });

  test("the model sees latents of variance 1 at the start", () => {
    const noise = Float32Array.of(1, -0.5);
    expect([...modelInput(startLatents(noise, 14.6), 14.6)]).toEqual([1, -0.5]);
  });
});

/**
 * For data of a normal distribution, mean m and deviation s, the best clean latents are
 * `m + s^2 / (s^2 + sigma^2) (x - m)`, and the probability flow runs through
 * `m + (x_start - m) sqrt((s^2 + sigma^2) / (s^2 + sigma_start^2))`.
 */
const MEAN = 0.3;
const DEVIATION = 0.5;
const bestGuess = (x: Float64Array, sigma: number) =>
  x.map((one) => MEAN + (DEVIATION ** 2 / (DEVIATION ** 2 + sigma ** 2)) * (one - MEAN));

function draw(name: SamplerName, start: Float64Array, sigmas: Float64Array, seed = 0): Float64Array {
  const stepper = createStepper(name);
  let x = start;
  for (let i = 0; i + 1 < sigmas.length; i++) {
    const noise = () => randomStream(seed, "test", i).fillNormal(new Float32Array(x.length));
    x = stepper({ x, x0: bestGuess(x, sigmas[i]!), sigma: sigmas[i]!, nextSigma: sigmas[i + 1]!, noise });
  }
  return x;
}

describe("a model that is known exactly", () => {
  const schedule = createNoiseSchedule();
  /** How far from the exact flow a sampler ends, at the schedule's least noise. */
  const errorOf = (name: SamplerName, steps: number) => {
    const { sigmas } = noiseLevels(schedule, name, "karras", steps);
    const [first, last] = [sigmas[0]!, sigmas[steps - 1]!];
    const start = MEAN + 1.5 * first;
    const exact =
      MEAN + (start - MEAN) * Math.sqrt((DEVIATION ** 2 + last ** 2) / (DEVIATION ** 2 + first ** 2));
    const [found] = draw(name, Float64Array.of(start), sigmas.slice(0, steps));
    return Math.abs(found! - exact);
  };

  test("twice the steps halve Euler's error and quarter DPM-Solver++(2M)'s", () => {
    for (const name of ["ddim", "euler"] as const) {
      expect(errorOf(name, 80) / errorOf(name, 160)).toBeGreaterThan(1.8);
      expect(errorOf(name, 80) / errorOf(name, 160)).toBeLessThan(2.2);
    }
    expect(errorOf("dpmsolver++", 80) / errorOf("dpmsolver++", 160)).toBeGreaterThan(3.4);
    expect(errorOf("dpmsolver++", 40)).toBeLessThan(errorOf("euler", 160));
  });

  test.each(SAMPLER_NAMES)("%s draws the distribution of the data", (name) => {
    const count = 20_000;
    const { sigmas } = noiseLevels(schedule, name, "uniform", 200);
    const noise = randomStream(1, "start").fillNormal(new Float32Array(count));
    const drawn = draw(name, startLatents(noise, sigmas[0]!), sigmas, 2);
    const mean = drawn.reduce((total, one) => total + one, 0) / count;
    const variance = drawn.reduce((total, one) => total + (one - mean) ** 2, 0) / count;
    // Four standard errors of 20,000 draws, and 2 % for 200 steps.
    expect(Math.abs(mean - MEAN)).toBeLessThan((4 * DEVIATION) / Math.sqrt(count) + 0.02 * DEVIATION);
    expect(Math.abs(Math.sqrt(variance) / DEVIATION - 1)).toBeLessThan(4 / Math.sqrt(2 * count) + 0.02);
  });
});
