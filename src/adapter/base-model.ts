/** Which base model an adapter is for: what its metadata says, and what its names and shapes show. */
import type { LoraModule } from "./module.js";

export type BaseModel = "sd1" | "sd2" | "sdxl";

/** As users know them. */
export const BASE_MODEL_TITLES: Readonly<Record<BaseModel, string>> = {
  sd1: "Stable Diffusion 1.x",
  sd2: "Stable Diffusion 2.x",
  sdxl: "Stable Diffusion XL",
};

export interface BaseModelFacts {
  /** What the metadata says, in its own words, or null. */
  readonly stated: string | null;
  readonly fromMetadata: BaseModel | null;
  /** Null where names and shapes do not decide it. */
  readonly fromShapes: BaseModel | null;
  /** From the metadata; null where it does not say. */
  readonly predictionType: "epsilon" | "v_prediction" | null;
}

/** Width of the text encoder's output, which every cross attention takes as input. */
const CONTEXT_WIDTHS: ReadonlyMap<number, BaseModel> = new Map([
  [768, "sd1"],
  [1024, "sd2"],
  [2048, "sdxl"],
]);

/** Width of the (only) text encoder. */
const TEXT_WIDTHS: ReadonlyMap<number, BaseModel> = new Map([
  [768, "sd1"],
  [1024, "sd2"],
]);

export function readBaseModel(
  metadata: Readonly<Record<string, string>>,
  modules: readonly LoraModule[],
): BaseModelFacts {
  const version = known(metadata.ss_base_model_version);
  const architecture = known(metadata["modelspec.architecture"]);
  return {
    stated: version ?? architecture,
    fromMetadata: modelOfVersion(version ?? "") ?? modelOfArchitecture(architecture ?? ""),
    fromShapes: modelOfModules(modules),
    predictionType: predictionTypeOf(metadata, version ?? ""),
  };
}

function known(value: string | undefined): string | null {
  return value === undefined || value === "None" || value === "" ? null : value;
}

function modelOfVersion(version: string): BaseModel | null {
  if (version.startsWith("sdxl")) return "sdxl";
  if (version.startsWith("sd_v2")) return "sd2";
  return version.startsWith("sd_v1") ? "sd1" : null;
}

function modelOfArchitecture(architecture: string): BaseModel | null {
  if (architecture.startsWith("stable-diffusion-xl")) return "sdxl";
  if (architecture.startsWith("stable-diffusion-v2")) return "sd2";
  return architecture.startsWith("stable-diffusion-v1") ? "sd1" : null;
}

function predictionTypeOf(
  metadata: Readonly<Record<string, string>>,
  version: string,
): BaseModelFacts["predictionType"] {
  const stated = metadata["modelspec.prediction_type"];
  if (stated === "v" || stated === "v_prediction" || metadata.ss_v_parameterization === "True")
    return "v_prediction";
  if (stated === "epsilon") return "epsilon";
  if (/^sd_v[12]_v$/.test(version)) return "v_prediction";
  return version.startsWith("sd") ? "epsilon" : null;
}

function modelOfModules(modules: readonly LoraModule[]): BaseModel | null {
  if (modules.some(({ component }) => component === "text_encoder_2")) return "sdxl";
  const crossAttention = modules.find(
    ({ component, name }) => component === "unet" && /_attn2_to_[kv]$/.test(name),
  );
  if (crossAttention !== undefined) return CONTEXT_WIDTHS.get(crossAttention.inFeatures) ?? null;
  if (modules.some(({ name }) => /^lora_unet_(?:input_blocks|middle_block|output_blocks)_/.test(name)))
    return "sdxl";
  // An adapter of one text encoder alone: lora_te1 would be SDXL's first, as wide as SD 1.x's.
  const textQuery = modules.find(({ name }) => /^lora_te_.*_self_attn_q_proj$/.test(name));
  return textQuery === undefined ? null : (TEXT_WIDTHS.get(textQuery.inFeatures) ?? null);
}
