/**
 * Canonical weight names and the names that a single-file checkpoint has for them.
 *
 * The maps are built by walking the model's structure (src/models/structure), so they hold for any number of levels,
 * resnets and transformer blocks.
 */
import { internalError } from "../../errors.js";
import type { ClipTextConfig, ModelVersion, UnetConfig, VaeConfig } from "../config.js";
import type { ModuleSpec } from "../structure/module-spec.js";
import { unetModules } from "../structure/unet.js";
import { vaeModules } from "../structure/vae.js";
import { clipWeightShapes, unetWeightShapes, vaeWeightShapes, type WeightShapes } from "../weight-shapes.js";

/** A tensor of a single-file checkpoint, or one of the equal row blocks of it. */
export interface OriginalTensor {
  /** Full name in the file. */
  readonly name: string;
  /** OpenCLIP packs q, k and v into one `in_proj` tensor: block `index` of `count`; null: the whole tensor. */
  readonly rows: { readonly index: number; readonly count: number } | null;
}

/** Canonical weight name to the original tensor. */
export type OriginalNames = ReadonlyMap<string, OriginalTensor>;

export type CheckpointComponent = "unet" | "text_encoder" | "vae";

export interface CheckpointConfigs {
  readonly version: ModelVersion;
  readonly unet: UnetConfig;
  readonly textEncoder: ClipTextConfig;
  readonly vae: VaeConfig;
}

export const UNET_PREFIX = "model.diffusion_model.";
export const VAE_PREFIX = "first_stage_model.";
/** In front of transformers' names in SD 1.x files. */
export const CLIP_PREFIX = "cond_stage_model.transformer.";
/** In front of OpenCLIP's names in SD 2.x files. */
export const OPEN_CLIP_PREFIX = "cond_stage_model.model.";

export function unetOriginalNames(config: UnetConfig): OriginalNames {
  return prefixedNames(unetModules(config), UNET_PREFIX);
}

/** @param prefix - default `first_stage_model.`; files that hold nothing but a VAE leave it out */
export function vaeOriginalNames(config: VaeConfig, prefix: string = VAE_PREFIX): OriginalNames {
  return prefixedNames(vaeModules(config), prefix);
}

export function clipOriginalNames(config: ClipTextConfig, version: ModelVersion): OriginalNames {
  if (version === "sd2") return openClipNames(config);
  const names = [...clipWeightShapes(config).keys()];
  return new Map(names.map((name) => [name, whole(CLIP_PREFIX + name)]));
}

/**
 * The original name of any canonical weight of a model.
 *
 * @returns a function that throws `E_INTERNAL` for a name that the model does not have
 */
export function toOriginalName(
  configs: CheckpointConfigs,
): (component: CheckpointComponent, canonicalName: string) => OriginalTensor {
  const names: Record<CheckpointComponent, OriginalNames> = {
    unet: unetOriginalNames(configs.unet),
    text_encoder: clipOriginalNames(configs.textEncoder, configs.version),
    vae: vaeOriginalNames(configs.vae),
  };
  return (component, canonicalName) => {
    const tensor = names[component].get(canonicalName);
    if (tensor === undefined) throw internalError(`the ${component} has no weight named ${canonicalName}`);
    return tensor;
  };
}

/**
 * Name and shape of every tensor of a single-file checkpoint: what to write so that `openCheckpoint` reads these configs
 * back. The VAE's attention has its original form, 1x1 convolutions.
 */
export function originalWeightShapes(configs: CheckpointConfigs): WeightShapes {
  const shapes = new Map<string, readonly number[]>();
  const add = (names: OriginalNames, canonicalShapes: WeightShapes) => {
    for (const [canonicalName, tensor] of names) {
      const shape = canonicalShapes.get(canonicalName)!;
      const [rows = 1, ...rest] = shape;
      shapes.set(tensor.name, tensor.rows === null ? shape : [rows * tensor.rows.count, ...rest]);
    }
  };
  add(clipOriginalNames(configs.textEncoder, configs.version), clipWeightShapes(configs.textEncoder));
  add(vaeOriginalNames(configs.vae), vaeWeightShapes(configs.vae));
  for (const module of vaeModules(configs.vae)) {
    if (module.kind === "linear") {
      shapes.set(`${VAE_PREFIX}${module.originalPath}.weight`, [...module.weightShape, 1, 1]);
    }
  }
  add(unetOriginalNames(configs.unet), unetWeightShapes(configs.unet));
  return shapes;
}

function prefixedNames(modules: readonly ModuleSpec[], prefix: string): OriginalNames {
  const names = new Map<string, OriginalTensor>();
  for (const { path, originalPath, hasBias } of modules) {
    names.set(`${path}.weight`, whole(`${prefix}${originalPath}.weight`));
    if (hasBias) names.set(`${path}.bias`, whole(`${prefix}${originalPath}.bias`));
  }
  return names;
}

/** OpenCLIP's names of transformers' modules inside one layer; q, k and v come from `in_proj`. */
const OPEN_CLIP_LAYER: readonly (readonly [string, string])[] = [
  ["self_attn.out_proj", "attn.out_proj"],
  ["layer_norm1", "ln_1"],
  ["mlp.fc1", "mlp.c_fc"],
  ["mlp.fc2", "mlp.c_proj"],
  ["layer_norm2", "ln_2"],
];
const IN_PROJ_ORDER = ["q_proj", "k_proj", "v_proj"] as const;
const PARAMETERS = ["weight", "bias"] as const;

function openClipNames(config: ClipTextConfig): OriginalNames {
  const names = new Map<string, OriginalTensor>([
    ["text_model.embeddings.token_embedding.weight", whole(`${OPEN_CLIP_PREFIX}token_embedding.weight`)],
    ["text_model.embeddings.position_embedding.weight", whole(`${OPEN_CLIP_PREFIX}positional_embedding`)],
  ]);
  for (let layer = 0; layer < config.layers; layer++) {
    const path = `text_model.encoder.layers.${layer}`;
    const original = `${OPEN_CLIP_PREFIX}transformer.resblocks.${layer}`;
    for (const parameter of PARAMETERS) {
      IN_PROJ_ORDER.forEach((projection, index) => {
        names.set(`${path}.self_attn.${projection}.${parameter}`, {
          name: `${original}.attn.in_proj_${parameter}`,
          rows: { index, count: IN_PROJ_ORDER.length },
        });
      });
      for (const [module, originalModule] of OPEN_CLIP_LAYER) {
        names.set(`${path}.${module}.${parameter}`, whole(`${original}.${originalModule}.${parameter}`));
      }
    }
  }
  for (const parameter of PARAMETERS) {
    names.set(`text_model.final_layer_norm.${parameter}`, whole(`${OPEN_CLIP_PREFIX}ln_final.${parameter}`));
  }
  return names;
}

function whole(name: string): OriginalTensor {
  return { name, rows: null };
}
