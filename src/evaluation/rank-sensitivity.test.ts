import { describe, expect, test } from "vitest";
import { randomValues } from "../../test/helpers/random-adapter.js";
import { randomBatch, tinyDenoiser } from "../../test/helpers/tiny-denoiser.js";
import { SLOW_MS } from "../../test/helpers/tiny-run.js";
import { downWidth, upWidth } from "../denoiser/factors.js";
import type { LoraTarget } from "../models/lora-targets.js";
import { atReference, RankSensitivity, type SensitivityModule } from "./rank-sensitivity.js";

const RANKS = [2, 4, 8];

/** The paper's rule: alpha / b. */
const SCALES = RANKS.map((rank) => 4 / rank);

function moduleFor(target: LoraTarget, reference: number, size: number, seed: number): SensitivityModule {
  const down = randomValues(8 * downWidth(target), seed);
  const up = randomValues(8 * upWidth(target), seed + 1).map((value) => value * size);
  return { factors: { target, maxRank: 8, alpha: 4, down, up }, ranks: RANKS, scales: SCALES, reference };
}

describe("on a model", () => {
  test(
    "the prediction is the change of the loss, where changes are small",
    async () => {
      const tiny = await tinyDenoiser({ wanted: /unet_up_blocks_3_attentions_[01]_proj_out$/ });
      const { denoiser, targets } = tiny;
      try {
        const modules = targets.map((target, i) => moduleFor(target, 4, 0.02, 10 * i));
        const batch = randomBatch(tiny, 1);
        const { loss, gradients } = await denoiser.gradients(batch, modules.map(atReference));
        const sensitivity = new RankSensitivity(modules);
        sensitivity.add(loss[0]!, batch.target.length, gradients);
        const saved = sensitivity.saved();

        const lossAt = async (changed: number, rank: number) => {
          const active = modules.map(({ factors, reference }, i) => {
            const own = i === changed ? rank : reference;
            return { factors, rank: own, scale: own === 0 ? 0 : 4 / own };
          });
          return (await denoiser.loss(batch, active))[0]!;
        };
        expect(await lossAt(-1, 0)).toBeCloseTo(loss[0]!, 5);
        for (const i of modules.keys()) {
          const without = await lossAt(i, 0);
          for (const [k, rank] of RANKS.entries()) {
            const actual = without - (await lossAt(i, rank));
            // The loss is a float32 of about 1; what is left of third order is some percent of the change.
            expect(Math.abs(saved[i]![k]! - actual)).toBeLessThan(0.15 * Math.abs(actual) + 2e-6);
          }
        }
      } finally {
        await denoiser.release();
      }
    },
    SLOW_MS,
  );
});

describe("the arithmetic", () => {
  const target = {
    name: "lora_unet_a",
    path: "a",
    component: "unet",
    kind: "linear",
    inFeatures: 3,
    outFeatures: 1,
    stride: 1,
  } as const satisfies LoraTarget;

  /** One output, `up` of ones: the gradient of `up` is that of the gates. */
  const oneOutput = (reference: number): SensitivityModule => ({
    factors: { target, maxRank: 8, alpha: 4, down: new Float32Array(24), up: new Float32Array(8).fill(1) },
    ranks: RANKS,
    scales: SCALES,
    reference,
  });
  const saved = (reference: number, gates: number[], loss = 1) => {
    const sensitivity = new RankSensitivity([oneOutput(reference)]);
    const up = Float32Array.from(gates);
    sensitivity.add(loss, 4, new Map([[target.name, { down: new Float32Array(24), up }]]));
    return [...sensitivity.saved()[0]!];
  };

  test("components that share the work evenly: the strength makes up for those that are cut off", () => {
    // Rank 2 of strength 2 is rank 4 of strength 1 is rank 8 of strength 1/2.
    const [two, four, eight] = saved(4, new Array(8).fill(0.25));
    expect(two).toBeCloseTo(four!, 12);
    expect(eight).toBeCloseTo(four!, 12);
  });

  test("first and second order, by hand", () => {
    // r = 4, 2, 1; prefix sums 1, 1, 1: positions 4, 2, 1 against 2; 4 errors and a loss of 1 give the curvature 1.
    const change = (step: number) => step + step ** 2;
    expect(saved(4, [1, 0, 0, 0, 0, 0, 0, 0])).toEqual([4, 2, 1].map((at) => change(-2) - change(at - 2)));
  });

  test("a sample with larger errors says less about the curvature", () => {
    const [small] = saved(8, [1, 0, 0, 0, 0, 0, 0, 0], 1);
    const [large] = saved(8, [1, 0, 0, 0, 0, 0, 0, 0], 100);
    expect(small).toBe(-1 + 1 - (3 + 9));
    expect(large).toBeCloseTo(-1 + 0.01 - (3 + 0.09), 12);
  });

  test("a module without influence, and a loss of zero, are worth nothing", () => {
    const sensitivity = new RankSensitivity([oneOutput(4)]);
    sensitivity.add(1, 4, new Map());
    sensitivity.add(
      0,
      4,
      new Map([[target.name, { down: new Float32Array(24), up: new Float32Array(8).fill(1) }]]),
    );
    expect([...sensitivity.saved()[0]!]).toEqual([0, 0, 0]);
  });

  test("gates behind the reference are closed, and have gradients", () => {
    const { factors, rank, scale } = atReference(oneOutput(2));
    expect(rank).toBe(8);
    expect(scale).toBe(0.5);
    // 4 / 2 over 4 / 8
    expect([...factors.up]).toEqual([4, 4, 0, 0, 0, 0, 0, 0]);
  });
});
