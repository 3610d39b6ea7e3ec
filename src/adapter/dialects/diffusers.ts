/** The names of diffusers' `save_lora_weights`: today's, and the older ones that its loader still reads. */
import type { Component } from "../module.js";
import type { Dialect, TensorRole } from "./dialect.js";

const NAME =
  /^(?:(unet|text_encoder|text_encoder_2)\.)?(.+?)(?:\.lora_([AB])|(?:\.lora(?:_linear_layer)?|_lora)\.(down|up))\.weight$/;

export const diffusersDialect: Dialect = {
  id: "diffusers",
  title: "diffusers",
  unsupportedNote:
    "dylora reads kohya's names. Convert the file, for example with diffusers' convert_state_dict_to_kohya.",
  roleOf(tensorName): TensorRole | null {
    const match = NAME.exec(tensorName);
    if (match === null) return null;
    const [, component, path, letter, direction] = match;
    // The oldest files name no component, and hold only the U-Net's attention processors.
    if (component === undefined && !path!.includes(".processor")) return null;
    return {
      module: `${component ?? "unet"}.${path}`,
      component: (component ?? "unet") as Component,
      part: letter === "A" || direction === "down" ? "down" : "up",
    };
  },
};
