import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { randomBatch, type TinyDenoiser, tinyDenoiser } from "../../test/helpers/tiny-denoiser.js";
import { SLOW_MS } from "../../test/helpers/tiny-run.js";
import type { SessionPoolOptions } from "../runtime/session-pool.js";
import { freshModule } from "../training/network.js";
import { Denoiser, type TrainBatch } from "./denoiser.js";
import type { ActiveModule, BranchFactors } from "./factors.js";

/** Two modules of the U-Net and the text encoder's last layer. */
const WANTED = /mid_block.*attn2_to_k|down_blocks_0_attentions_0_proj_in$|layers_\d+_mlp_fc1/;

let tiny: TinyDenoiser;
let network: BranchFactors[];
let batch: TrainBatch;

/** Rank 2 of every module, with `up` not zero. */
const active = (scale: number, rank = 2): ActiveModule[] =>
  network.map((factors) => ({ factors, rank, scale }));

beforeAll(async () => {
  tiny = await tinyDenoiser({ wanted: WANTED, clipSkip: 2 });
  network = tiny.targets.map((target) => {
    const factors = freshModule(target, 3, 1, 5);
    return { ...factors, up: factors.up.map((_, index) => Math.sin(index) / 10) };
  });
  batch = randomBatch(tiny, 2);
}, SLOW_MS);

afterAll(() => tiny.denoiser.release());

describe("a denoiser with modules in both components", () => {
  test("has the text encoder inside", () => {
    expect(tiny.denoiser.includesTextEncoder).toBe(true);
  });

  test("rank 0 and strength 0 are the base model; any other strength is not", async () => {
    const { denoiser } = tiny;
    const base = await denoiser.loss(batch, active(1, 0));
    expect(await denoiser.loss(batch, active(0))).toEqual(base);
    expect(await denoiser.loss(batch, active(1))).not.toEqual(base);
  });

  test("the loss is the mean squared error of each sample's prediction", async () => {
    const { denoiser } = tiny;
    const { prediction, context } = await denoiser.predict(batch, active(1));
    expect(context).toHaveLength(2 * 77 * tiny.checkpoint.textEncoder.config.hiddenSize);
    const size = prediction.length / 2;
    const losses = await denoiser.loss(batch, active(1));
    for (const [sample, loss] of losses.entries()) {
      let sum = 0;
      for (let i = sample * size; i < (sample + 1) * size; i++)
        sum += (prediction[i]! - batch.target[i]!) ** 2;
      expect(loss).toBeCloseTo(sum / size, 5);
    }
  });

  test("a sample's loss does not depend on what else is in the batch", async () => {
    const [first, second] = await tiny.denoiser.loss(batch, active(1));
    const [alone] = await tiny.denoiser.loss(randomBatch(tiny, 1, 1), active(1));
    expect(Math.abs(alone! - second!) / second!).toBeLessThan(1e-5);
    expect(first).not.toBe(second);
  });

  test("gradients have the active components only, and follow the weight of each sample", async () => {
    const { loss, gradients } = await tiny.denoiser.gradients(batch, active(1));
    expect(loss).toHaveLength(2);
    const target = tiny.targets.find(({ name }) => name.includes("attn2_to_k"))!;
    const { down, up } = gradients.get(target.name)!;
    expect(down).toHaveLength(2 * target.inFeatures);
    expect(up).toHaveLength(2 * target.outFeatures);
    expect(down.some((value) => value !== 0)).toBe(true);

    const doubled = { ...batch, lossWeight: batch.lossWeight.map((weight) => 2 * weight) };
    const twice = (await tiny.denoiser.gradients(doubled, active(1))).gradients.get(target.name)!;
    for (const [index, value] of twice.down.entries()) expect(value).toBeCloseTo(2 * down[index]!, 6);
  });

  test("gradients are written where they are wanted, and nothing behind them", async () => {
    const expected = await tiny.denoiser.gradients(batch, active(1));
    const into = network.map(({ down, up }) => ({
      down: new Float32Array(down.length).fill(7),
      up: new Float32Array(up.length).fill(7),
    }));
    const { loss, gradients } = await tiny.denoiser.gradients(batch, active(1), into);
    expect(loss).toEqual(expected.loss);
    expect([...gradients.keys()]).toEqual([...expected.gradients.keys()]);
    for (const [index, { target }] of network.entries()) {
      for (const side of ["down", "up"] as const) {
        const gradient = gradients.get(target.name)?.[side];
        const array = into[index]![side];
        const written = gradient?.length ?? 0;
        if (gradient !== undefined) {
          expect(gradient).toEqual(expected.gradients.get(target.name)![side]);
          expect(gradient.buffer).toBe(array.buffer);
        }
        expect(array.subarray(written).every((value) => value === 7)).toBe(true);
      }
    }
  });

  test("a layer behind the clip skip has no gradient, and is not called zero", async () => {
    const { gradients } = await tiny.denoiser.gradients(batch, active(1));
    const layers = tiny.checkpoint.textEncoder.config.layers;
    const layer = (index: number) => `lora_te_text_model_encoder_layers_${index}_mlp_fc1`;
    expect(tiny.targets.map(({ name }) => name)).toContain(layer(layers - 1));
    expect(gradients.has(layer(layers - 1))).toBe(false);
    expect(gradients.has(layer(layers - 2))).toBe(true);
  });
});

test(
  "sizes come in any order: a session that had to go is made again and gives the same numbers",
  async () => {
    const sizes = [
      [8, 8],
      [8, 16],
      [8, 8],
      [8, 16],
    ] as const;
    const batchOf = (height: number, width: number): TrainBatch => {
      const size = (batch.sample.length / (8 * 8)) * height * width;
      const sized = (values: Float32Array) =>
        Float32Array.from({ length: size }, (_, i) => values[i % values.length]!);
      return { ...batch, height, width, sample: sized(batch.sample), target: sized(batch.target) };
    };
    const lossesWith = async (pool: SessionPoolOptions) => {
      const denoiser = new Denoiser({ ...tiny.denoiser.options, pool });
      const losses: Float32Array[] = [];
      for (const [height, width] of sizes)
        losses.push(await denoiser.loss(batchOf(height, width), active(1)));
      await denoiser.release();
      return { losses, made: denoiser.sessionsMade };
    };
    const roomy = await lossesWith({ freeBytes: () => Number.POSITIVE_INFINITY });
    const tight = await lossesWith({ freeBytes: () => 0 });
    expect([roomy.made, tight.made]).toEqual([2, 4]);
    expect(tight.losses).toEqual(roomy.losses);
    expect(roomy.losses[0]).toEqual(roomy.losses[2]);
    expect(roomy.losses[0]).not.toEqual(roomy.losses[1]);
  },
  SLOW_MS,
);
