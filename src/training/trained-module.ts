/** The modules that a run trains. */

import type { ActiveModule, BranchFactors } from "../denoiser/factors.js";
import { activeScale } from "../dylora/index.js";
import type { FactorState } from "./optimizer/index.js";

/** A module's factors with the optimizer's state for them. */
export interface TrainedModule {
  readonly factors: BranchFactors;
  readonly down: FactorState;
  readonly up: FactorState;
}

/** A module at a rank, at the strength of the paper's rule. */
export function activate(factors: BranchFactors, rank: number): ActiveModule {
  return { factors, rank, scale: rank === 0 ? 0 : activeScale(factors.alpha, rank) };
}
