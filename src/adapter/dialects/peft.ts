/** The names of PEFT's `adapter_model.safetensors`; rank and alpha are in the `adapter_config.json` beside it. */
import type { Dialect, TensorRole } from "./dialect.js";

const NAME = /^base_model\.model\.(.+)\.lora_([AB])(?:\.[^.]+)?\.weight$/;
const MAGNITUDE = /^base_model\.model\.(.+)\.lora_magnitude_vector(?:\.[^.]+)?(?:\.weight)?$/;

export const peftDialect: Dialect = {
  id: "peft",
  title: "PEFT",
  unsupportedNote:
    "dylora reads kohya's names. Convert the file with the scripts in PEFT's examples/lora_dreambooth.",
  roleOf(tensorName): TensorRole | null {
    const match = NAME.exec(tensorName);
    if (match !== null) {
      const [, path, letter] = match;
      return { module: path!, component: componentOf(path!), part: letter === "A" ? "down" : "up" };
    }
    const path = MAGNITUDE.exec(tensorName)?.[1];
    return path === undefined
      ? null
      : { module: path, component: componentOf(path), part: "foreign", method: "dora" };
  },
};

function componentOf(path: string): "unet" | "text_encoder" {
  return path.startsWith("text_model.") ? "text_encoder" : "unet";
}
