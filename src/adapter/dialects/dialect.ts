/** A way to name the tensors of an adapter. One file per dialect; `index.ts` lists them. */
import type { Component, ForeignMethod } from "../module.js";

export type DialectId = "kohya" | "diffusers" | "peft" | "comfyui";

/** What one tensor name says. */
export interface TensorRole {
  /** Name of the module, the same for all of its tensors. */
  readonly module: string;
  readonly component: Component;
  /** `down`, `up` and `alpha` make a LoRA module; `foreign` belongs to a module that is more or something else. */
  readonly part: "down" | "up" | "alpha" | "foreign";
  /** What a `foreign` part makes of its module. */
  readonly method?: ForeignMethod;
}

export interface Dialect {
  readonly id: DialectId;
  /** As the error messages call it. */
  readonly title: string;
  /** What a tensor's name says, or null where it is no name of this dialect. */
  roleOf(tensorName: string): TensorRole | null;
  /** Null where dylora can work on such files; else what to do about it. */
  readonly unsupportedNote: string | null;
}
