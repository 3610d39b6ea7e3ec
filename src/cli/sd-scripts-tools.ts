/**
 * What dylora answers to the options of sd-scripts' file tools (`networks/*.py`) that it has under no name.
 *
 * A line that was written for them should either run, or say in one sentence what has to change.
 */
import type { ForeignOption, ForeignOptions } from "../options/read-options.js";

const refused = (takes: ForeignOption["takes"], reason: string): ForeignOption => ({
  answer: "refused",
  takes,
  reason,
});
const ignored = (takes: ForeignOption["takes"], reason: string): ForeignOption => ({
  answer: "ignored",
  takes,
  reason,
});

const FROM_THE_FILES = ignored("nothing", "what kind of model it is, is seen in the files.");
const COMPUTED_HERE: ForeignOptions = {
  device: ignored("value", "this is computed on the CPU."),
};
const BARE_METADATA: ForeignOptions = {
  no_metadata: refused("nothing", "Write the file, then `dylora edit FILE --remove '*' --in-place`."),
};

/** `extract_lora_from_dylora.py` */
export const EXTRACT_FOREIGN: ForeignOptions = {
  model: refused("value", "Give the file by itself: `dylora extract cat.safetensors --unit 4 --out ranks`."),
};

/** `resize_lora.py` */
export const RESIZE_FOREIGN: ForeignOptions = {
  ...COMPUTED_HERE,
  model: refused("value", "Give the file by itself: `dylora resize cat.safetensors --ranks 8`."),
};

/** `merge_lora.py`, `sdxl_merge_lora.py`, `svd_merge_lora.py` */
export const MERGE_FOREIGN: ForeignOptions = {
  ...COMPUTED_HERE,
  ...BARE_METADATA,
  models: refused(
    "values",
    "Give the files by themselves: `dylora merge a.safetensors b.safetensors --ratios 1 0.6`.",
  ),
  v2: FROM_THE_FILES,
  concat: ignored("nothing", "without --rank a merge always keeps all components."),
  shuffle: ignored("nothing", "the order of components makes no difference to their sum."),
};

/** `extract_lora_from_models.py` */
export const DIFF_FOREIGN: ForeignOptions = {
  ...COMPUTED_HERE,
  ...BARE_METADATA,
  model_org: refused("value", "Give both models by themselves: `dylora diff BASE TUNED --rank 64`."),
  model_tuned: refused("value", "Give both models by themselves: `dylora diff BASE TUNED --rank 64`."),
  v2: FROM_THE_FILES,
  sdxl: FROM_THE_FILES,
  v_parameterization: FROM_THE_FILES,
  load_precision: ignored("value", "weights are read as they are and subtracted exactly."),
  load_original_model_to: ignored("value", "neither model is loaded as a whole."),
  load_tuned_model_to: ignored("value", "neither model is loaded as a whole."),
  clamp_quantile: ignored("value", "no number is clamped: that only adds error."),
};
