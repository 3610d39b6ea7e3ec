import { type FactorUpdate, type Optimizer, touchedRuns } from "./optimizer.js";
import { add, compileKernel, mul, sign, sub } from "./simd-kernel.js";

export interface LionOptions {
  /** Share of the momentum in the direction of a step, and its decay afterwards. Default 0.9 and 0.99. */
  betas?: readonly [number, number];
  /** Decoupled, as in AdamW. Default 0. */
  weightDecay?: number;
}

const SLOTS = ["exp_avg"] as const;

/**
 * Lion (Chen et al. 2023, arXiv:2302.06675, algorithm 2), with the defaults of the `lion-pytorch` that sd-scripts uses:
 *
 *     w <- w - lr weightDecay w - lr sign(beta1 m + (1 - beta1) g)
 *     m <- beta2 m + (1 - beta2) g
 *
 * Every element moves by the learning rate, so it wants one 3 to 10 times smaller than AdamW's.
 */
export function lion(options: LionOptions = {}): Optimizer {
  const { betas: [beta1, beta2] = [0.9, 0.99], weightDecay = 0 } = options;
  return {
    name: "Lion",
    settings: { beta1, beta2, weight_decay: weightDecay },
    slotNames: SLOTS,
    step(update: FactorUpdate): void {
      const { learningRate, gradientScale = 1 } = update;
      for (const { values, gradient, slots } of touchedRuns(update, SLOTS)) {
        kernel(
          { w: values, g: gradient, m: slots[0]! },
          {
            gradientScale,
            beta1,
            oneMinusBeta1: 1 - beta1,
            beta2,
            oneMinusBeta2: 1 - beta2,
            learningRate,
            decay: learningRate * weightDecay,
          },
        );
      }
    },
  };
}

const kernel = compileKernel(
  ["w", "g", "m"],
  ["gradientScale", "beta1", "oneMinusBeta1", "beta2", "oneMinusBeta2", "learningRate", "decay"],
  ({ array, scalar, keep, store }) => {
    const g = keep(mul(array("g"), scalar("gradientScale")));
    const direction = keep(add(mul(array("m"), scalar("beta1")), mul(g, scalar("oneMinusBeta1"))));
    const change = add(mul(sign(direction), scalar("learningRate")), mul(array("w"), scalar("decay")));
    store("w", sub(array("w"), change));
    store("m", add(mul(array("m"), scalar("beta2")), mul(g, scalar("oneMinusBeta2"))));
  },
);
