/** Recognising what a file is when it is not a Stable Diffusion 1.x or 2.x checkpoint. */
import type { DyloraError } from "../../errors.js";
import { incompatible, nameSome } from "./problem.js";

/** Tensor names that only adapters have: kohya, diffusers, PEFT, LyCORIS, OFT. */
const ADAPTER_TENSOR =
  /\.(lora_(down|up|mid|A|B|linear_layer)\b|lora\.(down|up)\.|hada_w[12]|lokr_w[12]|oft_blocks|oft_diag|dora_scale|ia3_|diff$)|_lora\.(down|up)\.|^bundle_emb\./;

interface Architecture {
  readonly name: string;
  readonly matches: (names: readonly string[]) => boolean;
}

const has = (pattern: RegExp) => (names: readonly string[]) => names.some((name) => pattern.test(name));

/** In order: the first that matches names the file. */
const ARCHITECTURES: readonly Architecture[] = [
  { name: "an SDXL checkpoint", matches: has(/^conditioner\.embedders\.1\./) },
  { name: "an SDXL refiner checkpoint", matches: has(/^conditioner\.embedders\.0\./) },
  { name: "a Stable Diffusion 3 checkpoint", matches: has(/(^|\.)joint_blocks\.\d+\./) },
  { name: "a Flux checkpoint", matches: has(/(^|\.)double_blocks\.\d+\./) },
  { name: "a ControlNet", matches: has(/^control_model\.|(^|\.)controlnet_cond_embedding\./) },
  { name: "an AnimateDiff motion module", matches: has(/(^|\.)motion_modules\./) },
  {
    name: "a U-Net with a class or image embedding (SDXL U-Net, SD 2.1 unCLIP or SD x4 upscaler)",
    matches: has(/^model\.diffusion_model\.label_emb\./),
  },
  { name: "a PixArt checkpoint", matches: has(/(^|\.)adaln_single\./) },
  { name: "a Stable Cascade checkpoint", matches: has(/(^|\.)clip_txt_pooled_mapper\./) },
  {
    name: "an SDXL U-Net with diffusers names",
    matches: has(/^add_embedding\.linear_1\./),
  },
  {
    name: "a U-Net alone, with diffusers names",
    matches: has(/^(unet\.)?down_blocks\.0\.resnets\.0\./),
  },
  { name: "a textual inversion embedding", matches: has(/^(emb_params|string_to_param|clip_[lg])\b/) },
];

/**
 * Refuses a single file by the name of what it is, if its tensor names give it away; returns if it may be a Stable
 * Diffusion 1.x or 2.x checkpoint.
 */
export function refuseOtherArchitectures(path: string, names: readonly string[]): void {
  if (names.some((name) => ADAPTER_TENSOR.test(name))) {
    throw incompatible(
      path,
      "this is an adapter (LoRA or similar), not a base model checkpoint",
      "Give the checkpoint that it was trained on. To continue training an adapter, pass it as --network_weights.",
    );
  }
  const architecture = ARCHITECTURES.find(({ matches }) => matches(names));
  if (architecture !== undefined) throw unsupported(path, architecture.name);
}

/** The refusal of a model by what it is. */
export function unsupported(path: string, what: string): DyloraError {
  return incompatible(
    path,
    `this is ${what}; only Stable Diffusion 1.x and 2.x checkpoints are supported`,
    "Give a Stable Diffusion 1.x or 2.x .safetensors file with the original names, or the diffusers folder that holds unet/ " +
      "and text_encoder/.",
  );
}

/** The refusal of a file without any sign of a Stable Diffusion U-Net. */
export function notACheckpoint(path: string, names: readonly string[]): DyloraError {
  const hasVae = has(/^(first_stage_model\.)?encoder\.conv_in\./)(names);
  if (hasVae && !has(/^cond_stage_model\./)(names)) return unsupported(path, "a VAE alone");
  const found = names.length === 0 ? "it has no tensors" : `found ${nameSome(names)}`;
  return incompatible(
    path,
    `not a Stable Diffusion checkpoint: expected tensors named model.diffusion_model.*, ${found}`,
    "Give a Stable Diffusion 1.x or 2.x .safetensors file with the original names, or a diffusers folder.",
  );
}

/** What a U-Net is for whose input is not just the noisy latents, by its input channels. */
const CONDITIONED_BY_IN_CHANNELS: ReadonlyMap<number, string> = new Map([
  [5, "a depth-to-image model (5 input channels)"],
  [7, "an upscaler (7 input channels)"],
  [8, "an InstructPix2Pix model (8 input channels)"],
  [9, "an inpainting model (9 input channels)"],
]);

/** Refuses U-Nets that need more inputs than noisy latents, timestep and text. */
export function refuseConditionedUnet(path: string, inChannels: number, outChannels: number): void {
  if (inChannels === outChannels) return;
  const what =
    CONDITIONED_BY_IN_CHANNELS.get(inChannels) ??
    `a U-Net with ${inChannels} input and ${outChannels} output channels`;
  throw unsupported(path, what);
}
