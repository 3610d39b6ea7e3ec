import type { Denoiser } from "../../denoiser/denoiser.js";
import type { RankPlan } from "../../dylora/index.js";
import type { Optimizer } from "../optimizer/index.js";
import type { TrainedModule } from "../trained-module.js";
import { HostParameters } from "./host-parameters.js";
import { optimizerRule } from "./optimizer-rules.js";
import type { ParameterStore } from "./parameter-store.js";
import { ResidentParameters } from "./resident-parameters.js";

export interface ParameterStoreOptions {
  denoiser: Denoiser;
  modules: readonly TrainedModule[];
  optimizer: Optimizer;
  plan: RankPlan;
}

/** On the device where that is possible, else in the process's memory. */
export function createParameterStore(options: ParameterStoreOptions): ParameterStore {
  const { denoiser, modules, optimizer } = options;
  const { device } = denoiser.options;
  const rule = optimizerRule(optimizer);
  if (device !== "webgpu" || rule === null) return new HostParameters(denoiser, modules, optimizer);
  return new ResidentParameters({ ...options, rule, denoiser: { ...denoiser.options, device } });
}
