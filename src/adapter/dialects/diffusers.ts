/**
 * The names of diffusers' `save_lora_weights`: today's, and the older ones that its loader still reads.
 *
 * | since | U-Net | text encoder |
 * | --- | --- | --- |
 * | 0.12 | `….attn1.processor.to_q_lora.down.weight`, no component | `….self_attn.to_q_lora.down.weight` |
 * | 0.19 | `unet.….to_q.lora.down.weight` | `text_encoder.….q_proj.lora_linear_layer.down.weight` |
 * | today | `unet.….to_q.lora_A.weight` | `text_encoder.….q_proj.lora_A.weight` |
 *
 * Rank and alpha are in the file's metadata, see ../adapter-metadata.ts.
 */
import type { Component } from "../module.js";
import type { Dialect, TensorRole } from "./dialect.js";

const NAME =
  /^(?:(unet|text_encoder|text_encoder_2)\.)?(.+?)(?:\.lora_([AB])(?:\.[^.]+)?|(?:\.lora|\.lora_linear_layer|(_lora))\.(down|up))\.weight$/;
const FOREIGN =
  /^(?:(unet|text_encoder|text_encoder_2)\.)?(.+)\.(lora_magnitude_vector(?:\.weight)?|lora_[AB]\.bias)$/;

/** Where a path without a component begins in the U-Net and in the text encoder. */
const BARE_UNET = /^(?:(?:down|up)_blocks|mid_block|conv_(?:in|out)|(?:time|add)_embedding)(?:\.|$)/;
const BARE_TEXT = /^text_model\./;

/** The oldest files say `to_q_lora` of both models' attentions; modules have other names in the text encoder. */
const OLD_ATTENTION: Readonly<Record<string, { readonly unet: string; readonly text: string }>> = {
  to_q: { unet: "to_q", text: "q_proj" },
  to_k: { unet: "to_k", text: "k_proj" },
  to_v: { unet: "to_v", text: "v_proj" },
  to_out: { unet: "to_out.0", text: "out_proj" },
};

export const diffusersDialect: Dialect = {
  id: "diffusers",
  title: "diffusers",
  unsupportedNote: null,
  roleOf(tensorName): TensorRole | null {
    const match = NAME.exec(tensorName);
    if (match === null) return foreignRole(tensorName);
    const [, prefix, rawPath, letter, isOldest, direction] = match;
    const component = componentOf(prefix, rawPath!);
    if (component === null) return null;
    const path = isOldest === undefined ? rawPath! : todaysPath(rawPath!, component);
    return {
      module: `${component}.${path.replace(".processor.", ".")}`,
      component,
      part: letter === "A" || direction === "down" ? "down" : "up",
    };
  },
};

/** Name of a factor in today's form. */
export function diffusersTensorName(component: Component, path: string, part: "down" | "up"): string {
  return `${component}.${path}.${part === "down" ? "lora_A" : "lora_B"}.weight`;
}

function foreignRole(tensorName: string): TensorRole | null {
  const match = FOREIGN.exec(tensorName);
  if (match === null) return null;
  const [, prefix, path, suffix] = match;
  const component = componentOf(prefix, path!);
  if (component === null) return null;
  const method = suffix!.endsWith(".bias") ? "bias" : "dora";
  return { module: `${component}.${path}`, component, part: "foreign", method };
}

function componentOf(prefix: string | undefined, path: string): Component | null {
  if (prefix !== undefined) return prefix as Component;
  if (BARE_UNET.test(path)) return "unet";
  return BARE_TEXT.test(path) ? "text_encoder" : null;
}

function todaysPath(path: string, component: Component): string {
  const dot = path.lastIndexOf(".");
  const names = OLD_ATTENTION[path.slice(dot + 1)];
  if (names === undefined) return path;
  return `${path.slice(0, dot)}.${component === "unet" ? names.unet : names.text}`;
}
