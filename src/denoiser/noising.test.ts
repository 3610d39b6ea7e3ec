import { describe, expect, test } from "vitest";
import { createNoiseSchedule } from "../models/noise-schedule.js";
import { randomStream } from "../random/stream.js";
import { diffuse, drawLatent, drawNoise } from "./noising.js";

const normals = (count: number, ...key: (string | number)[]) =>
  randomStream(1, ...key).fillNormal(new Float32Array(count));

const moments = (mean: number, logvar: number, count = 6) => ({
  mean: new Float32Array(count).fill(mean),
  logvar: new Float32Array(count).fill(logvar),
  height: 1,
  width: count,
});

const statistics = (values: Float32Array) => {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
  return { mean, deviation: Math.sqrt(variance) };
};

describe("drawLatent", () => {
  test("is mean + deviation * normal, scaled", () => {
    const latent = drawLatent(moments(2, Math.log(9)), 0.5, randomStream(1, "latent"));
    const expected = normals(6, "latent").map((normal) => 0.5 * (2 + 3 * normal));
    for (const [index, value] of latent.entries()) expect(value).toBeCloseTo(expected[index]!, 5);
  });

  test("a log-variance beyond the autoencoder's bounds counts as the bound", () => {
    const draw = (logvar: number) => drawLatent(moments(0, logvar), 1, randomStream(1, "latent"));
    expect(draw(-1000)).toEqual(draw(-30));
    expect(draw(1000)).toEqual(draw(20));
    expect(draw(1000).every(Number.isFinite)).toBe(true);
  });

  test("leaves the moments, which may lie in a cache, as they are", () => {
    const given = moments(2, 1);
    drawLatent(given, 3, randomStream(1, "latent"));
    expect(given).toEqual(moments(2, 1));
  });
});

describe("drawNoise", () => {
  const shape = { channels: 4, pixels: 2000 };

  test("without an offset it is standard normal", () => {
    const noise = drawNoise(shape, 0, randomStream(1, "noise"));
    expect(noise).toEqual(normals(8000, "noise"));
    expect(statistics(noise).mean).toBeCloseTo(0, 1);
    expect(statistics(noise).deviation).toBeCloseTo(1, 1);
  });

  test("an offset shifts each channel as a whole, by a normal of that deviation", () => {
    const plain = drawNoise(shape, 0, randomStream(1, "noise"));
    const random = randomStream(1, "noise");
    const shifted = drawNoise(shape, 0.1, random);
    const expected = randomStream(1, "noise");
    expected.fillNormal(new Float32Array(8000));
    for (let channel = 0; channel < shape.channels; channel++) {
      const shift = 0.1 * expected.normal();
      for (const pixel of [0, 1, shape.pixels - 1]) {
        const index = channel * shape.pixels + pixel;
        expect(shifted[index]! - plain[index]!).toBeCloseTo(shift, 5);
      }
    }
  });
});

describe("diffuse", () => {
  const schedule = createNoiseSchedule();
  const latents = [normals(6, "a"), normals(6, "b")];
  const noises = [normals(6, "c"), normals(6, "d")];
  const timesteps = [0, 999];

  test("the noise is the answer of a model that predicts noise", () => {
    const { sample, target } = diffuse(schedule, "epsilon", latents, noises, timesteps);
    expect([...target]).toEqual([...noises[0]!, ...noises[1]!]);
    for (const [index, value] of sample.entries()) {
      const [n, i] = [Math.floor(index / 6), index % 6];
      const signal = schedule.alphasCumprod[timesteps[n]!]!;
      const expected = Math.sqrt(signal) * latents[n]![i]! + Math.sqrt(1 - signal) * noises[n]![i]!;
      expect(value).toBeCloseTo(expected, 5);
    }
  });

  test("sample and velocity give latent and noise back", () => {
    const { sample, target } = diffuse(schedule, "v_prediction", latents, noises, timesteps);
    for (const [index, velocity] of target.entries()) {
      const [n, i] = [Math.floor(index / 6), index % 6];
      const signal = schedule.alphasCumprod[timesteps[n]!]!;
      const [a, s] = [Math.sqrt(signal), Math.sqrt(1 - signal)];
      expect(a * sample[index]! - s * velocity).toBeCloseTo(latents[n]![i]!, 5);
      expect(s * sample[index]! + a * velocity).toBeCloseTo(noises[n]![i]!, 5);
    }
  });
});
