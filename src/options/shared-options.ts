/** Options that mean the same in every command that computes with a model. */
import type { OptionTable } from "./option-spec.js";

export const SHARED_OPTIONS = {
  v2: {
    type: "boolean",
    default: false,
    group: "Model",
    description: "the checkpoint is Stable Diffusion 2.x (otherwise found out from its tensors)",
  },
  v_parameterization: {
    type: "boolean",
    default: false,
    group: "Model",
    description: "the model predicts v instead of the noise (SD 2.x 768)",
  },
  vae: {
    type: "path",
    default: null,
    group: "Model",
    description: "another VAE than the checkpoint's",
    defaultText: "the checkpoint's",
  },
  clip_skip: {
    type: "integer",
    default: null,
    min: 1,
    group: "Model",
    description: "take the text encoder's n-th layer from the end; 1 is the last",
    defaultText: "as the adapter was trained",
  },
  device: {
    type: "enum",
    default: "auto",
    values: ["auto", "cpu", "webgpu", "cuda"],
    group: "Execution",
    common: true,
    description: "where to compute; auto takes the best that works, a device named here is never replaced",
  },
  threads: {
    type: "integer",
    default: null,
    min: 1,
    max: 1024,
    group: "Execution",
    description: "CPU threads of one operator",
    defaultText: "number of physical cores",
  },
  execution_mode: {
    type: "enum",
    default: "auto",
    values: ["auto", "fast", "lean"],
    group: "Execution",
    description: "fast prepares the weights once (more memory), lean starts at once",
  },
} as const satisfies OptionTable;
