/**
 * The modules that a LoRA trains, under the names kohya-ss/sd-scripts gave them.
 *
 * sd-scripts wraps every Linear and 1x1 convolution inside a `Transformer2DModel` of the U-Net and inside `CLIPAttention`
 * and `CLIPMLP` of the text encoder. With `conv_dim` it also takes `ResnetBlock2D`, `Downsample2D` and `Upsample2D`:
 * their 3x3 convolutions, but also the Linear `time_emb_proj` and the 1x1 shortcuts.
 */
import { DyloraError } from "../errors.js";
import type { ClipTextConfig, UnetConfig } from "./config.js";
import { clipModules } from "./structure/clip.js";
import type { ModuleOwner, ModuleSpec } from "./structure/module-spec.js";
import { unetModules } from "./structure/unet.js";

export type LoraKind = "linear" | "conv1x1" | "conv3x3";

/** One module that takes a LoRA branch `up(down(x))`. */
export interface LoraTarget {
  /** Kohya's module name, e.g. `lora_unet_mid_block_attentions_0_proj_in`. */
  readonly name: string;
  /** Canonical module path, e.g. `mid_block.attentions.0.proj_in`; its weight is `<path>.weight`. */
  readonly path: string;
  readonly component: "unet" | "text_encoder";
  readonly kind: LoraKind;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** Of the convolution, carried by `down`; 2 only in downsamplers. Padding is 1 for conv3x3, else 0. */
  readonly stride: 1 | 2;
}

export interface LoraTargetOptions {
  /** Also the resnets and resamplers of the U-Net (sd-scripts: `conv_dim` is set). Default false. */
  convDim?: boolean;
  /** Only the U-Net. Default false. */
  unetOnly?: boolean;
  /** Only the text encoder. Default false. */
  textEncoderOnly?: boolean;
}

const UNET_PREFIX = "lora_unet";
const TEXT_ENCODER_PREFIX = "lora_te";

const UNET_OWNERS: ReadonlySet<ModuleOwner> = new Set(["Transformer2DModel"] as const);
const UNET_CONV_OWNERS: ReadonlySet<ModuleOwner> = new Set([
  "Transformer2DModel",
  "ResnetBlock2D",
  "Downsample2D",
  "Upsample2D",
] as const);
const TEXT_ENCODER_OWNERS: ReadonlySet<ModuleOwner> = new Set(["CLIPAttention", "CLIPMLP"] as const);

/**
 * The modules to train, in the order in which sd-scripts creates them: text encoder, then U-Net, each in its model's
 * registration order. The text encoder's targets cover all of its layers, whatever the clip skip.
 *
 * @throws {DyloraError} `E_CONFIG` if both `unetOnly` and `textEncoderOnly` are set
 */
export function loraTargets(
  models: { readonly unet: UnetConfig; readonly textEncoder: ClipTextConfig },
  options: LoraTargetOptions = {},
): LoraTarget[] {
  const { convDim = false, unetOnly = false, textEncoderOnly = false } = options;
  if (unetOnly && textEncoderOnly) {
    throw new DyloraError(
      "E_CONFIG",
      "choose LoRA targets: U-Net only and text encoder only exclude each other, and both were asked for",
      { note: "Drop one of --network_train_unet_only and --network_train_text_encoder_only." },
    );
  }
  const targets: LoraTarget[] = [];
  if (!unetOnly) {
    for (const module of clipModules(models.textEncoder)) {
      if (isTarget(module, TEXT_ENCODER_OWNERS)) targets.push(toTarget(module, "text_encoder"));
    }
  }
  if (!textEncoderOnly) {
    const owners = convDim ? UNET_CONV_OWNERS : UNET_OWNERS;
    for (const module of unetModules(models.unet)) {
      if (isTarget(module, owners)) targets.push(toTarget(module, "unet"));
    }
  }
  return targets;
}

function isTarget(module: ModuleSpec, owners: ReadonlySet<ModuleOwner>): boolean {
  return module.owner !== null && owners.has(module.owner);
}

function toTarget(module: ModuleSpec, component: LoraTarget["component"]): LoraTarget {
  const prefix = component === "unet" ? UNET_PREFIX : TEXT_ENCODER_PREFIX;
  return {
    name: `${prefix}_${module.path.replaceAll(".", "_")}`,
    path: module.path,
    component,
    kind: module.kind === "linear" ? "linear" : module.weightShape[2] === 1 ? "conv1x1" : "conv3x3",
    inFeatures: module.weightShape[1]!,
    outFeatures: module.weightShape[0]!,
    stride: module.stride,
  };
}

/** Shapes of a target's two factors at a rank, as kohya's files have them: a convolution's kernel stays in `down`. */
export function loraFactorShapes(target: LoraTarget, rank: number): { down: number[]; up: number[] } {
  const { inFeatures, outFeatures, kind } = target;
  if (kind === "linear") return { down: [rank, inFeatures], up: [outFeatures, rank] };
  const kernel = kind === "conv3x3" ? 3 : 1;
  return { down: [rank, inFeatures, kernel, kernel], up: [outFeatures, rank, 1, 1] };
}
