/**
 * The names of kohya-ss/sd-scripts, LyCORIS and A1111: `<prefix>_<module path with _ for .>.<part>`.
 *
 * One dialect for SD 1.x, 2.x and SDXL: the module part is an opaque name here.
 */
import type { Component, ForeignMethod } from "../module.js";
import type { Dialect, TensorRole } from "./dialect.js";

/** `lora_te1` is SDXL's first text encoder; diffusers' converter writes it for SD 1.x as well. */
const COMPONENTS: Readonly<Record<string, Component>> = {
  lora_unet: "unet",
  lora_te: "text_encoder",
  lora_te1: "text_encoder",
  lora_te2: "text_encoder_2",
};

const NAME = /^((lora_(?:unet|te[12]?))_[^.]+)\.(.+)$/;

const PARTS: ReadonlyMap<string, "down" | "up" | "alpha"> = new Map([
  ["lora_down.weight", "down"],
  ["lora_up.weight", "up"],
  ["alpha", "alpha"],
]);

const FOREIGN_PARTS: readonly (readonly [RegExp, ForeignMethod])[] = [
  [/^lora_mid\.weight$/, "tucker"],
  [/^dora_scale$/, "dora"],
  [/^hada_(?:w[12]_[ab]|t[12])$/, "loha"],
  [/^lokr_(?:w[12](?:_[ab])?|t2)$/, "lokr"],
  [/^(?:oft_(?:blocks|diag)|rescale)$/, "oft"],
  [/^(?:[ab][12]|bm)\.weight$/, "glora"],
  [/^(?:on_input|weight)$/, "ia3"],
  [/^diff(?:_b)?$/, "full"],
  [/^[wb]_norm$/, "norm"],
  [/^(?:lora_(?:down|up)\.bias|bias_(?:indices|values|size))$/, "bias"],
  [/^scalar$/, "scalar"],
];

export const kohyaDialect: Dialect = {
  id: "kohya",
  title: "kohya (sd-scripts)",
  unsupportedNote: null,
  roleOf(tensorName): TensorRole | null {
    const match = NAME.exec(tensorName);
    if (match === null) {
      return tensorName.startsWith("bundle_emb.")
        ? { module: tensorName, component: "text_encoder", part: "foreign", method: "embedding" }
        : null;
    }
    const [, module, prefix, suffix] = match as unknown as [string, string, string, string];
    const component = COMPONENTS[prefix]!;
    const part = PARTS.get(suffix);
    if (part !== undefined) return { module, component, part };
    const method = FOREIGN_PARTS.find(([pattern]) => pattern.test(suffix))?.[1];
    return method === undefined ? null : { module, component, part: "foreign", method };
  },
};

/** Tensor names of one module. */
export function kohyaTensorNames(module: string): Readonly<Record<"down" | "up" | "alpha", string>> {
  return { down: `${module}.lora_down.weight`, up: `${module}.lora_up.weight`, alpha: `${module}.alpha` };
}
