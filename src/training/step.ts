/** One optimizer step: micro-steps at drawn ranks, clipping, update. */

import type { Denoiser, TrainBatch } from "../denoiser/denoiser.js";
import { type ActiveModule, type BranchFactors, downWidth, upWidth } from "../denoiser/factors.js";
import { activeScale, drawRank, moduleRank, type RankPlan, updatedComponents } from "../dylora/index.js";
import { DyloraError } from "../errors.js";
import { randomStream } from "../random/stream.js";
import type { LossScaler } from "./loss-scaler.js";
import { clipScale, type FactorState, GradientAccumulator, type Optimizer } from "./optimizer/index.js";

/** A module's factors with the optimizer's state for them. */
export interface TrainedModule {
  readonly factors: BranchFactors;
  readonly down: FactorState;
  readonly up: FactorState;
}

export interface StepperOptions {
  denoiser: Denoiser;
  modules: readonly TrainedModule[];
  plan: RankPlan;
  optimizer: Optimizer;
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

export type LearningRates = Readonly<Record<"unet" | "text_encoder", number>>;

export class Stepper {
  readonly #options: StepperOptions;
  readonly #accumulator: GradientAccumulator;

  constructor(options: StepperOptions) {
    this.#options = options;
    this.#accumulator = new GradientAccumulator(
      options.modules.flatMap(({ factors: { target } }) => [downWidth(target), upWidth(target)]),
    );
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
    const { denoiser, modules, maxGradNorm, lossScaler = null, onFinite } = this.#options;
    const lossScale = lossScaler?.scale ?? null;
    this.#accumulator.reset();
    const draws: { rank: number; loss: number }[] = [];
    for await (const batch of batches) {
      const { shared, ranks } = this.#drawRanks(step, draws.length);
      const active = modules.map(({ factors }, index) => activate(factors, ranks[index]!.rank));
      const { loss, gradients } = await denoiser.gradients(scaled(batch, lossScale), active);
      const weighted = loss.reduce((total, value, sample) => total + value * batch.lossWeight[sample]!, 0);
      if (!Number.isFinite(weighted)) throw diverged(step, `the loss is ${weighted}`);
      for (const [index, { factors }] of modules.entries()) {
        const gradient = gradients.get(factors.target.name);
        if (gradient === undefined) continue;
        const { rows } = ranks[index]!;
        const { target } = factors;
        const trained = (values: Float32Array, width: number) =>
          values.subarray(rows.begin * width, rows.end * width);
        this.#accumulator.add(2 * index, rows, trained(gradient.down, downWidth(target)));
        this.#accumulator.add(2 * index + 1, rows, trained(gradient.up, upWidth(target)));
      }
      draws.push({ rank: shared ?? meanRank(active), loss: weighted });
    }

    const gradientScale = 1 / (draws.length * (lossScale ?? 1));
    const gradNorm = this.#accumulator.norm(gradientScale);
    const loss = draws.reduce((total, draw) => total + draw.loss, 0) / draws.length;
    const skipped = !Number.isFinite(gradNorm);
    if (skipped) {
      if (!lossScaler?.skipped()) throw diverged(step, `the norm of the gradients is ${gradNorm}`);
    } else {
      lossScaler?.taken();
      onFinite?.();
      this.#update(clipScale(gradNorm, maxGradNorm) * gradientScale, learningRates);
    }
    return { loss, draws, gradNorm, lossScale, skipped };
  }

  #update(gradientScale: number, learningRates: LearningRates): void {
    for (const [index, { factors, down, up }] of this.#options.modules.entries()) {
      const learningRate = learningRates[factors.target.component];
      const parts = [
        { values: factors.down, state: down, touched: this.#accumulator.touched(2 * index) },
        { values: factors.up, state: up, touched: this.#accumulator.touched(2 * index + 1) },
      ];
      for (const { values, state, touched } of parts) {
        for (const { rows, gradient } of touched) {
          this.#options.optimizer.step({ values, state, rows, gradient, learningRate, gradientScale });
        }
      }
    }
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

/** A module at a rank, at the strength of the paper's rule. */
export function activate(factors: BranchFactors, rank: number): ActiveModule {
  return { factors, rank, scale: rank === 0 ? 0 : activeScale(factors.alpha, rank) };
}

/** The batch whose gradients are `lossScale` times as large. */
function scaled(batch: TrainBatch, lossScale: number | null): TrainBatch {
  if (lossScale === null) return batch;
  return { ...batch, lossWeight: batch.lossWeight.map((weight) => weight * lossScale) };
}

function meanRank(active: readonly ActiveModule[]): number {
  return Math.round(active.reduce((total, { rank }) => total + rank, 0) / active.length);
}

function diverged(step: number, what: string): DyloraError {
  return new DyloraError("E_DIVERGED", `training diverged at step ${step + 1}: ${what}`, {
    note: "The step was not taken. Try a lower --learning_rate, or --lr_warmup_steps.",
  });
}
