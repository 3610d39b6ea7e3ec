/**
 * A model as a flat list of its modules that own weights.
 *
 * One walk over the structure (unet.ts, clip.ts, vae.ts) yields names, shapes, original names and LoRA targets alike,
 * so they cannot disagree with each other.
 */

/** The class, in sd-scripts' and diffusers' words, of the block that a module belongs to; LoRA targets go by it. */
export type ModuleOwner =
  | "Transformer2DModel"
  | "ResnetBlock2D"
  | "Downsample2D"
  | "Upsample2D"
  | "CLIPAttention"
  | "CLIPMLP";

export interface ModuleSpec {
  /** Canonical module path: diffusers' names for U-Net and VAE, transformers' for the text encoder. */
  readonly path: string;
  /** Module path in a single-file checkpoint with the original names, without the model's prefix. */
  readonly originalPath: string;
  readonly kind: "linear" | "conv" | "norm" | "embedding";
  /** Linear `[out, in]`, conv `[out, in, kernel, kernel]`, norm `[channels]`, embedding `[entries, width]`. */
  readonly weightShape: readonly number[];
  readonly hasBias: boolean;
  /** Stride of a convolution in both directions; 1 for everything else. */
  readonly stride: 1 | 2;
  /** null: not inside a block that LoRA trains. */
  readonly owner: ModuleOwner | null;
}

/** A module's two names: canonical and original. */
export interface ModuleName {
  readonly path: string;
  readonly originalPath: string;
}

/** The name of a submodule; `originalChild` where the original name differs from the canonical one. */
export function child(parent: ModuleName, name: string, originalChild: string = name): ModuleName {
  return { path: `${parent.path}.${name}`, originalPath: `${parent.originalPath}.${originalChild}` };
}

interface ModuleOptions {
  bias?: boolean;
  owner?: ModuleOwner | null;
  stride?: 1 | 2;
}

/** `y = x W^T + b`, W `[outFeatures, inFeatures]`. */
export function linear(
  name: ModuleName,
  inFeatures: number,
  outFeatures: number,
  options: ModuleOptions = {},
): ModuleSpec {
  return moduleSpec(name, "linear", [outFeatures, inFeatures], options);
}

/** A square convolution, W `[outChannels, inChannels, kernel, kernel]`. */
export function conv(
  name: ModuleName,
  inChannels: number,
  outChannels: number,
  kernel: 1 | 3,
  options: ModuleOptions = {},
): ModuleSpec {
  return moduleSpec(name, "conv", [outChannels, inChannels, kernel, kernel], options);
}

/** A GroupNorm or LayerNorm with scale and offset per channel. */
export function norm(name: ModuleName, channels: number): ModuleSpec {
  return moduleSpec(name, "norm", [channels], {});
}

/** A table of `entries` vectors. */
export function embedding(name: ModuleName, entries: number, width: number): ModuleSpec {
  return moduleSpec(name, "embedding", [entries, width], { bias: false });
}

function moduleSpec(
  name: ModuleName,
  kind: ModuleSpec["kind"],
  weightShape: readonly number[],
  { bias = true, owner = null, stride = 1 }: ModuleOptions,
): ModuleSpec {
  return { ...name, kind, weightShape, hasBias: bias, stride, owner };
}
