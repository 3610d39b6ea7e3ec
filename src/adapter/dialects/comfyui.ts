/** The names that ComfyUI and ai-toolkit give adapters of newer models: the model's own names behind `diffusion_model.`. */
import type { Dialect, TensorRole } from "./dialect.js";

const NAME = /^(diffusion_model\..+)\.(?:lora_([AB])|lora_(down|up))\.weight$/;
const ALPHA = /^(diffusion_model\..+)\.alpha$/;

export const comfyuiDialect: Dialect = {
  id: "comfyui",
  title: "ComfyUI (diffusion_model.…)",
  unsupportedNote: "It is an adapter of another model family than Stable Diffusion 1.x, 2.x and SDXL.",
  roleOf(tensorName): TensorRole | null {
    const match = NAME.exec(tensorName);
    if (match !== null) {
      const [, module, letter, direction] = match;
      return {
        module: module!,
        component: "unet",
        part: letter === "A" || direction === "down" ? "down" : "up",
      };
    }
    const module = ALPHA.exec(tensorName)?.[1];
    return module === undefined ? null : { module, component: "unet", part: "alpha" };
  },
};
