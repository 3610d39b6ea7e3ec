import { type FactorUpdate, type Optimizer, touchedRuns } from "./optimizer.js";
import { add, compileKernel, mul, sub } from "./simd-kernel.js";

export interface SgdNesterovOptions {
  /** Default 0.9, as sd-scripts sets it. */
  momentum?: number;
  /** Added to the gradient (L2), not decoupled. Default 0. */
  weightDecay?: number;
}

const SLOTS = ["momentum_buffer"] as const;

/**
 * Gradient descent with Nesterov momentum, as `torch.optim.SGD(nesterov=True)`:
 *
 *     g <- g + weightDecay w          u <- momentum u + g          w <- w - lr (g + momentum u)
 */
export function sgdNesterov(options: SgdNesterovOptions = {}): Optimizer {
  const { momentum = 0.9, weightDecay = 0 } = options;
  return {
    name: "SGDNesterov",
    settings: { momentum, weight_decay: weightDecay },
    slotNames: SLOTS,
    step(update: FactorUpdate): void {
      const { learningRate, gradientScale = 1 } = update;
      for (const { values, gradient, slots } of touchedRuns(update, SLOTS)) {
        kernel(
          { w: values, g: gradient, u: slots[0]! },
          { gradientScale, momentum, weightDecay, learningRate },
        );
      }
    },
  };
}

const kernel = compileKernel(
  ["w", "g", "u"],
  ["gradientScale", "momentum", "weightDecay", "learningRate"],
  ({ array, scalar, keep, store }) => {
    const g = keep(add(mul(array("g"), scalar("gradientScale")), mul(array("w"), scalar("weightDecay"))));
    const u = keep(add(mul(array("u"), scalar("momentum")), g));
    store("u", u);
    store("w", sub(array("w"), mul(add(g, mul(u, scalar("momentum"))), scalar("learningRate"))));
  },
);
