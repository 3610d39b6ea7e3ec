/** Names and shapes of every weight of a model, for validating a checkpoint or making one up. */
import type { ClipTextConfig, UnetConfig, VaeConfig } from "./config.js";
import { clipModules } from "./structure/clip.js";
import type { ModuleSpec } from "./structure/module-spec.js";
import { unetModules } from "./structure/unet.js";
import { vaeModules } from "./structure/vae.js";

/** Canonical weight name (`….weight`, `….bias`) to shape. */
export type WeightShapes = ReadonlyMap<string, readonly number[]>;

/** Weights of the U-Net under diffusers' names. */
export function unetWeightShapes(config: UnetConfig): WeightShapes {
  return weightShapes(unetModules(config));
}

/** Weights of the text encoder under transformers' names (`text_model.…`). */
export function clipWeightShapes(config: ClipTextConfig): WeightShapes {
  return weightShapes(clipModules(config));
}

/** Weights of the autoencoder under diffusers' names, encoder and decoder. */
export function vaeWeightShapes(config: VaeConfig): WeightShapes {
  return weightShapes(vaeModules(config));
}

/** Number of scalars in all weights together. */
export function countParameters(shapes: WeightShapes): number {
  let count = 0;
  for (const shape of shapes.values()) count += shape.reduce((product, size) => product * size, 1);
  return count;
}

function weightShapes(modules: readonly ModuleSpec[]): WeightShapes {
  const shapes = new Map<string, readonly number[]>();
  for (const module of modules) {
    shapes.set(`${module.path}.weight`, module.weightShape);
    if (module.hasBias) shapes.set(`${module.path}.bias`, [module.weightShape[0]!]);
  }
  return shapes;
}
