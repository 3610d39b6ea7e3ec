import { type FactorUpdate, type Optimizer, touchedRuns } from "./optimizer.js";
import { add, compileKernel, div, mul, sqrt, sub } from "./simd-kernel.js";

export interface AdamWOptions {
  /** Decay of the mean gradient and of the mean squared gradient. Default 0.9 and 0.999. */
  betas?: readonly [number, number];
  /** Default 1e-8. */
  eps?: number;
  /** Decoupled: per step, the share `learningRate * weightDecay` of a value is taken away. Default 0.01. */
  weightDecay?: number;
}

const SLOTS = ["exp_avg", "exp_avg_sq"] as const;

/**
 * AdamW as `torch.optim.AdamW`: Loshchilov & Hutter 2019 (arXiv:1711.05101), algorithm 2.
 *
 *     m <- beta1 m + (1 - beta1) g          v <- beta2 v + (1 - beta2) g^2
 *     w <- w - lr weightDecay w - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
 *
 * with t the number of steps of the component. In float32 like torch's; the decay is subtracted together with the step
 * instead of multiplied by a rounded `1 - lr weightDecay`, which float32 holds to 3 % only at lr 1e-4.
 */
export function adamW(options: AdamWOptions = {}): Optimizer {
  const { betas: [beta1, beta2] = [0.9, 0.999], eps = 1e-8, weightDecay = 0.01 } = options;
  return {
    name: "AdamW",
    settings: { beta1, beta2, eps, weight_decay: weightDecay },
    slotNames: SLOTS,
    step(update: FactorUpdate): void {
      const { learningRate, gradientScale = 1 } = update;
      for (const { values, gradient, slots, step } of touchedRuns(update, SLOTS)) {
        kernel(
          { w: values, g: gradient, m: slots[0]!, v: slots[1]! },
          {
            gradientScale,
            beta1,
            oneMinusBeta1: 1 - beta1,
            beta2,
            oneMinusBeta2: 1 - beta2,
            stepSize: learningRate / (1 - beta1 ** step),
            inverseRootCorrection: 1 / Math.sqrt(1 - beta2 ** step),
            eps,
            decay: learningRate * weightDecay,
          },
        );
      }
    },
  };
}

const kernel = compileKernel(
  ["w", "g", "m", "v"],
  [
    "gradientScale",
    "beta1",
    "oneMinusBeta1",
    "beta2",
    "oneMinusBeta2",
    "stepSize",
    "inverseRootCorrection",
    "eps",
    "decay",
  ],
  ({ array, scalar, keep, store }) => {
    const g = keep(mul(array("g"), scalar("gradientScale")));
    const m = keep(add(mul(array("m"), scalar("beta1")), mul(g, scalar("oneMinusBeta1"))));
    const v = keep(add(mul(array("v"), scalar("beta2")), mul(mul(g, g), scalar("oneMinusBeta2"))));
    const denominator = add(mul(sqrt(v), scalar("inverseRootCorrection")), scalar("eps"));
    const change = add(div(mul(m, scalar("stepSize")), denominator), mul(array("w"), scalar("decay")));
    store("m", m);
    store("v", v);
    store("w", sub(array("w"), change));
  },
);
