/**
 * The names of PEFT's `adapter_model.safetensors`; rank and alpha are in the `adapter_config.json` beside it.
 *
 * PEFT adapts one model: of a pipeline's adapter every component has a folder of its own, which is put before the name
 * here (`unet/base_model.model.….lora_A.weight`, see ../combined-file.ts).
 */
import type { Component } from "../module.js";
import type { Dialect, TensorRole } from "./dialect.js";

const NAME =
  /^(?:(unet|text_encoder|text_encoder_2)\/)?base_model\.model\.(.+?)\.lora_([AB])(?:\.[^.]+)?\.weight$/;
const FOREIGN =
  /^(?:(unet|text_encoder|text_encoder_2)\/)?base_model\.model\.(.+?)\.(lora_magnitude_vector(?:\.[^.]+)?(?:\.weight)?|lora_[AB](?:\.[^.]+)?\.bias)$/;

export const peftDialect: Dialect = {
  id: "peft",
  title: "PEFT",
  unsupportedNote: null,
  roleOf(tensorName): TensorRole | null {
    const match = NAME.exec(tensorName);
    if (match !== null) {
      const [, folder, path, letter] = match;
      const component = componentOf(folder, path!);
      return { module: `${component}.${path}`, component, part: letter === "A" ? "down" : "up" };
    }
    const foreign = FOREIGN.exec(tensorName);
    if (foreign === null) return null;
    const [, folder, path, suffix] = foreign;
    const component = componentOf(folder, path!);
    const method = suffix!.endsWith(".bias") ? "bias" : "dora";
    return { module: `${component}.${path}`, component, part: "foreign", method };
  },
};

/** Name of a factor inside its component's file. */
export function peftTensorName(path: string, part: "down" | "up"): string {
  return `base_model.model.${path}.${part === "down" ? "lora_A" : "lora_B"}.weight`;
}

/** A lone file does not say which text encoder it is for: see ../resolve-modules.ts. */
function componentOf(folder: string | undefined, path: string): Component {
  if (folder !== undefined) return folder as Component;
  return path.startsWith("text_model.") || path === "text_projection" ? "text_encoder" : "unet";
}
