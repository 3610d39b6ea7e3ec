/** Which model an adapter's modules are of, as far as it matters for their names and shapes. */
import { type BaseModel, readBaseModel } from "./base-model.js";
import type { KohyaNaming } from "./dialects/written.js";
import type { ModuleKind } from "./module.js";
import type { KnownModule } from "./module-names.js";

export interface ModelIdentity {
  /** Decides kohya's names; null where nothing tells, and then kohya's names of SD 1.x fit, which SDXL's loaders read too. */
  readonly family: "sd" | "sdxl" | null;
  /** Decides whether `proj_in` is a convolution; null where nothing tells SD 1.x from 2.x. */
  readonly model: BaseModel | null;
}

export interface IdentifiedModule {
  readonly known: KnownModule;
  readonly inFeatures: number;
  readonly kind: ModuleKind;
}

/** Width of the text encoder's output, which every cross attention takes as input. */
const CONTEXT_WIDTHS: ReadonlyMap<number, BaseModel> = new Map([
  [768, "sd1"],
  [1024, "sd2"],
  [2048, "sdxl"],
]);

/** Modules decide before metadata do: those are what the file really holds. */
export function identifyModel(
  modules: readonly IdentifiedModule[],
  metadata: Readonly<Record<string, string>>,
): ModelIdentity {
  const candidates = new Set<BaseModel>(["sd1", "sd2", "sdxl"]);
  const keep = (models: ReadonlySet<BaseModel>) => {
    for (const model of candidates) if (!models.has(model)) candidates.delete(model);
  };
  for (const { known } of modules) keep(new Set(known.kinds.keys()));
  if (candidates.size > 1) {
    const models = new Set(modules.flatMap((module) => modelOfWidth(module) ?? []));
    const [model] = models;
    if (models.size === 1 && candidates.has(model!)) keep(models);
  }
  if (candidates.size > 1) {
    const { fromMetadata } = readBaseModel(metadata, []);
    if (fromMetadata !== null && candidates.has(fromMetadata)) keep(new Set([fromMetadata]));
  }
  const [model = null] = candidates.size === 1 ? candidates : [];
  const isSdxl = candidates.has("sdxl");
  const isSd = candidates.has("sd1") || candidates.has("sd2");
  return { family: isSdxl === isSd ? null : isSdxl ? "sdxl" : "sd", model };
}

/** The naming of kohya's files for a family. */
export function namingOf(family: ModelIdentity["family"]): KohyaNaming {
  return family === "sdxl" ? "sdxl" : "flat";
}

/** Cross attention has the width of the text encoder. Of the first text encoders only SD 2.x's is 1024 wide. */
function modelOfWidth({ known, inFeatures }: IdentifiedModule): BaseModel | null {
  if (known.component === "unet") {
    return /\.attn2\.to_[kv]$/.test(known.path) ? (CONTEXT_WIDTHS.get(inFeatures) ?? null) : null;
  }
  const isQuery = known.component === "text_encoder" && known.path.endsWith(".self_attn.q_proj");
  return isQuery && inFeatures === 1024 ? "sd2" : null;
}
