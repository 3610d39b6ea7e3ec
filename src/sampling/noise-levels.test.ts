import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createNoiseSchedule } from "../models/noise-schedule.js";
import { MOST_STEPS, noiseLevels } from "./noise-levels.js";
import { NOISE_SPACINGS, SAMPLER_NAMES } from "./sampler-names.js";

const schedule = createNoiseSchedule();
const sigmaAt = (t: number) => Math.sqrt(1 / schedule.alphasCumprod[t]! - 1);

test("Stable Diffusion's smallest and largest noise", () => {
  // k-diffusion's well-known values for these betas.
  expect(sigmaAt(0)).toBeCloseTo(0.0292, 4);
  expect(sigmaAt(999)).toBeCloseTo(14.6146, 4);
});

describe("uniform", () => {
  test("ddim starts from the last timestep and leaves equal gaps", () => {
    const { timesteps, sigmas } = noiseLevels(schedule, "ddim", "uniform", 20);
    expect([...timesteps.slice(0, 3), timesteps.at(-1)]).toEqual([999, 949, 899, 49]);
    expect(sigmas[0]).toBeCloseTo(sigmaAt(999), 12);
    expect(sigmas[19]).toBeCloseTo(sigmaAt(49), 12);
    expect(sigmas[20]).toBe(0);
  });

  test("the others go evenly to timestep 0; between two timesteps log sigma is interpolated", () => {
    const { timesteps, sigmas } = noiseLevels(schedule, "euler", "uniform", 5);
    expect([...timesteps]).toEqual([999, 749.25, 499.5, 249.75, 0]);
    expect(sigmas[2]).toBeCloseTo(Math.sqrt(sigmaAt(499) * sigmaAt(500)), 12);
    expect([sigmas[4], sigmas[5]]).toEqual([expect.closeTo(sigmaAt(0), 12), 0]);
  });
});

test("karras: eq. 5 of arXiv:2206.00364, and the timesteps that these levels belong to", () => {
  const { timesteps, sigmas } = noiseLevels(schedule, "euler", "karras", 3);
  expect(sigmas[0]).toBeCloseTo(sigmaAt(999), 9);
  // ((14.6146 ** (1/7) + 0.0292 ** (1/7)) / 2) ** 7 = ((1.4669 + 0.6036) / 2) ** 7 = 1.035237 ** 7 = 1.2742.
  expect(sigmas[1]).toBeCloseTo(1.2742, 2);
  expect(sigmas[2]).toBeCloseTo(sigmaAt(0), 9);
  expect([timesteps[0], timesteps[2]]).toEqual([expect.closeTo(999, 6), expect.closeTo(0, 6)]);
  const between = timesteps[1]!;
  expect(sigmaAt(Math.floor(between))).toBeLessThan(sigmas[1]!);
  expect(sigmaAt(Math.ceil(between))).toBeGreaterThan(sigmas[1]!);
});

test("noise falls from step to step, whatever the choice", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...SAMPLER_NAMES),
      fc.constantFrom(...NOISE_SPACINGS),
      fc.integer({ min: 1, max: MOST_STEPS }),
      fc.boolean(),
      (sampler, spacing, steps, zeroTerminalSnr) => {
        const levels = noiseLevels(createNoiseSchedule({ zeroTerminalSnr }), sampler, spacing, steps);
        expect([levels.sigmas.length, levels.timesteps.length]).toEqual([steps + 1, steps]);
        expect(levels.sigmas.slice(1).every((sigma, i) => sigma < levels.sigmas[i]!)).toBe(true);
        expect(levels.timesteps.every((t) => t >= 0 && t <= 999)).toBe(true);
        expect(Number.isFinite(levels.sigmas[0])).toBe(true);
      },
    ),
    { numRuns: 60 },
  );
});

test("a schedule without any signal at its end starts from (nearly) pure noise", () => {
  const { sigmas, timesteps } = noiseLevels(
    createNoiseSchedule({ zeroTerminalSnr: true }),
    "ddim",
    "uniform",
    10,
  );
  expect(timesteps[0]).toBe(999);
  // sqrt(2 ** 24 - 1)
  expect(sigmas[0]).toBeCloseTo(4096, 2);
});

test.each([0, 1.5, MOST_STEPS + 1])("%d steps are refused", (steps) => {
  expect(() => noiseLevels(schedule, "ddim", "uniform", steps)).toThrow(/steps must be from 1 to 1000/);
});
