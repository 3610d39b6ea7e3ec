/** Stable Diffusion checkpoints: opening them, and the names of their weights. */
export { type Sha256Options, sdModelHash, sha256OfFile } from "./hashes.js";
export { openCheckpoint } from "./open-checkpoint.js";
export {
  type CheckpointComponent,
  type CheckpointConfigs,
  clipOriginalNames,
  type OriginalNames,
  type OriginalTensor,
  originalWeightShapes,
  toOriginalName,
  unetOriginalNames,
  vaeOriginalNames,
} from "./original-names.js";
export { openVae } from "./standalone-vae.js";
export type {
  Checkpoint,
  ModelPart,
  OpenCheckpointOptions,
  PredictionTypeSource,
  WeightRef,
  Weights,
} from "./types.js";
