import type { OptionTable } from "../options/option-spec.js";

/** `--dtype` of commands that compute new factors. */
export const DTYPE_OPTION = {
  type: "enum",
  default: null,
  values: ["F16", "BF16", "F32"],
  ignoreCase: true,
  aliases: { fp16: "F16", float16: "F16", bfloat16: "BF16", fp32: "F32", float32: "F32", float: "F32" },
  placeholder: "type",
  group: "Output",
  common: true,
  alsoCalled: ["save_precision", "precision"],
  description: "type of the factors",
  defaultText: "that of the files, F32 where they differ",
} as const satisfies OptionTable[string];
