import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import { pictureFolder, SLOW_MS, tinyConfig } from "../../test/helpers/tiny-run.js";
import { type PreparedRun, prepareRun } from "../training/prepare.js";
import { activate } from "../training/trained-module.js";
import { HeldOut, type HeldOutOptions } from "./held-out.js";

let run: PreparedRun;
const { signal } = new AbortController();

beforeAll(async () => {
  const config = tinyConfig({ trainDataDir: await pictureFolder(3), outputDir: await tempFolder() });
  run = await prepareRun(config, config.seed!, { onEvent: () => {}, signal });
}, SLOW_MS);

afterAll(async () => {
  await run.conditioning.release();
  await run.denoiser.release();
});

const heldOut = (changes: Partial<HeldOutOptions> = {}) => {
  const { conditioning, schedule, predictionType, scalingFactor } = run.batches;
  const items = run.data.train.items;
  return new HeldOut({
    items,
    draws: 4,
    seed: 1,
    batchSize: 2,
    conditioning,
    schedule,
    predictionType,
    scalingFactor,
    ...changes,
  });
};

const active = (rank: number) => run.network.map((factors) => activate(factors, rank));
const losses = (target: HeldOut, rank = 0) => target.losses(run.denoiser, active(rank), { signal });

describe("HeldOut", () => {
  test("every image has its draws, each in its own band of the timesteps", () => {
    const { samples } = heldOut({ draws: 8 });
    expect(samples.map(({ image, draw }) => [image, draw])).toEqual(
      run.data.train.items.flatMap(({ key }) => [0, 1, 2, 3, 4, 5, 6, 7].map((draw) => [key, draw])),
    );
    for (const { draw, timestep } of samples) expect(Math.floor(timestep / 250)).toBe(draw % 4);
    expect(new Set(samples.map(({ timestep }) => timestep)).size).toBeGreaterThan(16);
    // More draws only add to those that there are.
    expect(heldOut().samples).toEqual(samples.filter(({ draw }) => draw < 4));
  });

  test("timesteps follow seed and image, not what else is measured", () => {
    const [item] = run.data.train.items.slice(1);
    const timesteps = (target: HeldOut) => target.samples.map(({ timestep }) => timestep);
    expect(timesteps(heldOut({ items: [item!] }))).toEqual(timesteps(heldOut()).slice(4, 8));
    expect(timesteps(heldOut({ seed: 2 }))).not.toEqual(timesteps(heldOut()));
  });

  test("losses are the same again, and those of another seed are others", async () => {
    const found = await losses(heldOut());
    expect(found).toHaveLength(12);
    expect(await losses(heldOut())).toEqual(found);
    expect(await losses(heldOut({ seed: 2 }))).not.toEqual(found);
  });

  test("a last batch that is not full measures the same", async () => {
    const found = await losses(heldOut({ items: run.data.train.items.slice(0, 2) }));
    const filledUp = await losses(heldOut({ items: run.data.train.items.slice(0, 2), batchSize: 3 }));
    expect(filledUp).toHaveLength(8);
    for (const [index, loss] of filledUp.entries()) expect(loss / found[index]!).toBeCloseTo(1, 5);
  });

  test("a fresh adapter changes nothing at any rank", async () => {
    const base = await losses(heldOut());
    expect(await losses(heldOut(), 2)).toEqual(base);
    expect(await losses(heldOut(), 4)).toEqual(base);
  });

  test("tells how far it is, and stops when asked", async () => {
    const seen: number[] = [];
    await heldOut().losses(run.denoiser, active(0), { signal, onProgress: (done) => seen.push(done) });
    expect(seen).toEqual([2, 4, 6, 8, 10, 12]);
    const controller = new AbortController();
    const stopped = heldOut().losses(run.denoiser, active(0), {
      signal: controller.signal,
      onProgress: () => controller.abort(),
    });
    await expect(stopped).rejects.toMatchObject({ name: "AbortError" });
  });

  test("a loss that is not finite is an error with image and timestep, not a mean of nothing", async () => {
    const [broken, ...others] = active(4);
    const down = broken!.factors.down.map(() => Number.NaN);
    const modules = [{ ...broken!, factors: { ...broken!.factors, down } }, ...others];
    const [sample] = heldOut().samples;
    await expect(heldOut().losses(run.denoiser, modules, { signal })).rejects.toMatchObject({
      code: "E_DIVERGED",
      message: `the loss on ${sample!.image} at timestep ${sample!.timestep} is NaN`,
    });
  });
});
