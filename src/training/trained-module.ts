/** The modules that a run trains. */

import type { ActiveModule, BranchFactors, FactorGradients } from "../denoiser/factors.js";
import { activeScale } from "../dylora/index.js";
import { createFactorState, type FactorState, type Optimizer } from "./optimizer/index.js";
import { allocateForKernels } from "./optimizer/kernel-memory.js";

/** A module's factors with the optimizer's state for them. */
export interface TrainedModule {
  readonly factors: BranchFactors;
  readonly down: FactorState;
  readonly up: FactorState;
  /** Where the denoiser writes its gradients: as large as the factors. */
  readonly gradients: FactorGradients;
}

/**
 * Modules at the beginning of a run: copies of their factors, in memory that the optimizer works in without copying. What is not used
 * (gradients that stay on a device) takes none: its pages are never touched.
 */
export function createTrainedModules(
  network: readonly BranchFactors[],
  optimizer: Optimizer,
): TrainedModule[] {
  const perFactor = 2 + optimizer.slotNames.length;
  const arrays = allocateForKernels(
    network.flatMap(({ down, up }) =>
      [down, up].map(({ length }) => new Array<number>(perFactor).fill(length)),
    ),
  );
  return network.map((factors, index) => {
    const place = (values: Float32Array, [copy, gradient, ...slots]: readonly Float32Array[]) => {
      copy!.set(values);
      const { maxRank } = factors;
      const state = createFactorState(optimizer, maxRank, values.length / maxRank, slots);
      return { copy: copy!, gradient: gradient!, state };
    };
    const down = place(factors.down, arrays[2 * index]!);
    const up = place(factors.up, arrays[2 * index + 1]!);
    return {
      factors: { ...factors, down: down.copy, up: up.copy },
      down: down.state,
      up: up.state,
      gradients: { down: down.gradient, up: up.gradient },
    };
  });
}

/** A module at a rank, at the strength of the paper's rule. */
export function activate(factors: BranchFactors, rank: number): ActiveModule {
  return { factors, rank, scale: rank === 0 ? 0 : activeScale(factors.alpha, rank) };
}
