/** One optimizer step: micro-steps at drawn ranks, clipping, update. */

import type { TrainBatch } from "../denoiser/denoiser.js";
import { drawRank, moduleRank, type RankPlan, updatedComponents } from "../dylora/index.js";
import { DyloraError } from "../errors.js";
import { randomStream } from "../random/stream.js";
import type { LossScaler } from "./loss-scaler.js";
import { clipScale } from "./optimizer/index.js";
import type { LearningRates, ModuleDraw, ParameterStore } from "./parameters/index.js";
import type { TrainedModule } from "./trained-module.js";

export interface StepperOptions {
  parameters: ParameterStore;
  /** The modules of the store. */
  modules: readonly TrainedModule[];
  plan: RankPlan;
  seed: number;
  /** `--max_grad_norm`; 0: no clipping. */
  maxGradNorm: number;
  /** Scales the loss so that gradients fit into float16. Default: none, the denoiser computes in float32. */
  lossScaler?: LossScaler | null;
  /** Called when loss and gradients of a step are known to be finite, before the factors change. */
  onFinite?: () => void;
}

export interface StepResult {
  /** Mean over the micro-steps of the weighted loss. */
  readonly loss: number;
  /** Loss and rank of every micro-step. With a draw per module the rank is the mean over the modules, rounded. */
  readonly draws: readonly { readonly rank: number; readonly loss: number }[];
  /** Norm of all gradients together before clipping; not finite where the step was skipped. */
  readonly gradNorm: number;
  /** What the loss was multiplied with in this step; null without loss scaling. */
  readonly lossScale: number | null;
  /** A gradient overflowed float16: factors and optimizer are as they were before, and the loss scale is half of it. */
  readonly skipped: boolean;
}

export class Stepper {
  readonly #options: StepperOptions;

  constructor(options: StepperOptions) {
    this.#options = options;
  }

  /**
   * Takes the optimizer step number `step` (from 0).
   *
   * @param batches - one per micro-step
   * @throws {DyloraError} `E_DIVERGED` when a loss or gradient is not finite (with loss scaling: a gradient at the smallest
   * scale); the factors are then as they were before
   */
  async step(
    step: number,
    batches: AsyncIterable<TrainBatch>,
    learningRates: LearningRates,
  ): Promise<StepResult> {
    const { parameters, maxGradNorm, lossScaler = null, onFinite } = this.#options;
    const lossScale = lossScaler?.scale ?? null;
    parameters.reset();
    const draws: { rank: number; loss: number }[] = [];
    for await (const batch of batches) {
      const { shared, ranks } = this.#drawRanks(step, draws.length);
      const loss = await parameters.accumulate(scaled(batch, lossScale), ranks);
      const weighted = loss.reduce((total, value, sample) => total + value * batch.lossWeight[sample]!, 0);
      if (!Number.isFinite(weighted)) throw diverged(step, `the loss is ${weighted}`);
      draws.push({ rank: shared ?? meanRank(ranks), loss: weighted });
    }

    const gradientScale = 1 / (draws.length * (lossScale ?? 1));
    const gradNorm = await parameters.gradientNorm(gradientScale);
    const loss = draws.reduce((total, draw) => total + draw.loss, 0) / draws.length;
    const skipped = !Number.isFinite(gradNorm);
    if (skipped) {
      if (!lossScaler?.skipped()) throw diverged(step, `the norm of the gradients is ${gradNorm}`);
    } else {
      lossScaler?.taken();
      onFinite?.();
      await parameters.update(clipScale(gradNorm, maxGradNorm) * gradientScale, learningRates);
    }
    return { loss, draws, gradNorm, lossScale, skipped };
  }

  /** For each module its rank in this micro-step and the components that learn; `shared`: the rank drawn for all of them. */
  #drawRanks(step: number, microStep: number) {
    const { modules, plan, seed } = this.#options;
    const draw = (...module: string[]) =>
      drawRank(plan, randomStream(seed, "rank", step, microStep, ...module));
    const shared = plan.rankDraw === "step" ? draw() : null;
    const ranks = modules.map(({ factors: { target, maxRank } }) => {
      const drawn = shared ?? draw(target.name);
      return { rank: moduleRank(plan, maxRank, drawn), rows: updatedComponents(plan, maxRank, drawn) };
    });
    return { shared, ranks };
  }
}

/** The batch whose gradients are `lossScale` times as large. */
function scaled(batch: TrainBatch, lossScale: number | null): TrainBatch {
  if (lossScale === null) return batch;
  return { ...batch, lossWeight: batch.lossWeight.map((weight) => weight * lossScale) };
}

function meanRank(draws: readonly ModuleDraw[]): number {
  return Math.round(draws.reduce((total, { rank }) => total + rank, 0) / draws.length);
}

function diverged(step: number, what: string): DyloraError {
  return new DyloraError("E_DIVERGED", `training diverged at step ${step + 1}: ${what}`, {
    note: "The step was not taken. Try a lower --learning_rate, or --lr_warmup_steps.",
  });
}
