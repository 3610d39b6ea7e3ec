/** What an adapter file holds, whatever its names look like. */
import type { TensorInfo } from "../safetensors/index.js";

/** The models of a pipeline that take adapters. */
export const COMPONENTS = ["unet", "text_encoder", "text_encoder_2"] as const;

/** The model of the pipeline that a module belongs to. */
export type Component = (typeof COMPONENTS)[number];

/** A 1x1 convolution that is stored in two dimensions is a `linear`: it is the same product. */
export type ModuleKind = "linear" | "conv1x1" | "conv3x3";

/**
 * One pair of low-rank factors: `W' = W + (alpha / rank) · up · down`.
 *
 * Axes: `R` rank, `I` input features or channels, `O` output features or channels.
 */
export interface LoraModule {
  /**
   * kohya's name, `lora_unet_…`, whatever the dialect: as the file has it, or what kohya's dialect would call the module.
   * `<component>.<path>` where another dialect's module is none of Stable Diffusion's.
   */
  readonly name: string;
  readonly component: Component;
  /**
   * Inside its component, as diffusers and transformers name it (`mid_block.attentions.0.proj_in`), where the dialect has such
   * names. Null in kohya's: `module-names.ts` knows.
   */
  readonly path: string | null;
  readonly kind: ModuleKind;
  readonly rank: number;
  /** The strength is alpha / rank. `rank` where the file has none. */
  readonly alpha: number;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** linear `[R, I]`, conv1x1 `[R, I, 1, 1]`, conv3x3 `[R, I, 3, 3]`. */
  readonly down: TensorInfo;
  /** linear `[O, R]`, convolutions `[O, R, 1, 1]` (`[O, R]` in files of LyCORIS). */
  readonly up: TensorInfo;
  readonly alphaTensor: TensorInfo | null;
}

/** Ways of adapting a module that are no plain pair of factors. */
export const FOREIGN_METHODS = {
  tucker: "Tucker (lora_mid)",
  dora: "DoRA",
  loha: "LoHa",
  lokr: "LoKr",
  oft: "OFT",
  glora: "GLoRA",
  ia3: "IA3",
  full: "a full difference (diff)",
  norm: "a normalisation layer",
  bias: "a bias",
  scalar: "LyCORIS' learned scalar",
  embedding: "a bundled embedding",
} as const;

export type ForeignMethod = keyof typeof FOREIGN_METHODS;

/** A module that dylora recognises and cannot work on. */
export interface ForeignModule {
  readonly name: string;
  readonly component: Component;
  readonly methods: readonly ForeignMethod[];
  readonly tensors: readonly TensorInfo[];
}

/** Number of trainable parameters: the elements of both factors. */
export function parameterCount({ kind, rank, inFeatures, outFeatures }: LoraModule): number {
  const kernelElements = kind === "conv3x3" ? 9 : 1;
  return rank * (inFeatures * kernelElements + outFeatures);
}
