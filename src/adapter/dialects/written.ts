/** The dialects that dylora writes. */
import type { Dtype } from "../../safetensors/index.js";

export const WRITTEN_DIALECTS = ["kohya", "diffusers", "peft"] as const;
export type WrittenDialect = (typeof WRITTEN_DIALECTS)[number];

/** kohya's two ways to name a module: by diffusers' path, and SDXL's by Stability AI's. */
export type KohyaNaming = "flat" | "sdxl";

/** How kohya's dialect writes an alpha. */
export interface AlphaForm {
  /** Null: as the factors, or F32 where that would round it. */
  readonly dtype: Dtype | null;
  readonly shape: readonly number[];
}

export const USUAL_ALPHA: AlphaForm = { dtype: null, shape: [] };
