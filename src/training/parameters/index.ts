export { createParameterStore, type ParameterStoreOptions } from "./create-store.js";
export { HostParameters } from "./host-parameters.js";
export type { GoodState, LearningRates, ModuleDraw, ParameterStore } from "./parameter-store.js";
