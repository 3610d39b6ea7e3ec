/**
 * The modules of Stable Diffusion 1.x, 2.x and SDXL, and what every dialect calls them.
 *
 * Names come from the models' own module lists (src/models/structure), in both directions: kohya's names put `_` for `.`
 * and cannot be split again without knowing the modules. Not part of `index.ts`: the lists take some milliseconds to
 * build, which reading a file of kohya's does not need.
 */
import { SD15_TEXT, SD15_UNET, SD21_TEXT, SD21_UNET } from "../models/reference-configs.js";
import { clipModules } from "../models/structure/clip.js";
import type { ModuleSpec } from "../models/structure/module-spec.js";
import { sdxlTextEncoder2Modules, sdxlUnetModules } from "../models/structure/sdxl.js";
import { unetModules } from "../models/structure/unet.js";
import type { BaseModel } from "./base-model.js";
import type { KohyaNaming } from "./dialects/written.js";
import type { Component, ModuleKind } from "./module.js";

/** A module that an adapter can be for: a Linear or a convolution. */
export interface KnownModule {
  readonly component: Component;
  /** Inside its component, as diffusers and transformers name it: `mid_block.attentions.0.proj_in`. */
  readonly path: string;
  /** kohya's name made of `path`: that of SD 1.x and 2.x, and the rarer one of SDXL. */
  readonly flatName: string;
  /**
   * kohya's name in SDXL: the U-Net's made of Stability AI's module paths, the first text encoder's with `lora_te1`. Null
   * for modules of the U-Net that SDXL does not have.
   */
  readonly sdxlName: string | null;
  /** What the module is in each model that has it. */
  readonly kinds: ReadonlyMap<BaseModel, ModuleKind>;
}

interface Prefixes {
  readonly flat: string;
  readonly sdxl: string;
}

const PREFIXES: Readonly<Record<Component, Prefixes>> = {
  unet: { flat: "lora_unet", sdxl: "lora_unet" },
  text_encoder: { flat: "lora_te", sdxl: "lora_te1" },
  text_encoder_2: { flat: "lora_te2", sdxl: "lora_te2" },
};

/** By component, then by path; and by every name that kohya's dialect has for it. */
interface Catalog {
  readonly byPath: ReadonlyMap<string, KnownModule>;
  readonly byKohyaName: ReadonlyMap<string, KnownModule>;
}

let catalog: Catalog | null = null;

/** The module at a path (diffusers' and transformers' names), or null where no model has one there. */
export function moduleAt(component: Component, path: string): KnownModule | null {
  catalog ??= buildCatalog();
  return catalog.byPath.get(`${component}.${path}`) ?? null;
}

/** The module that kohya's dialect calls `name`, in either naming; null where no model has one. */
export function moduleOfKohyaName(name: string): KnownModule | null {
  catalog ??= buildCatalog();
  return catalog.byKohyaName.get(name) ?? null;
}

/** kohya's name of a module; the flat one where the other naming has none. */
export function kohyaNameOf(known: KnownModule, naming: KohyaNaming): string {
  return naming === "sdxl" ? (known.sdxlName ?? known.flatName) : known.flatName;
}

/** Every module of a model, in the order of its components: U-Net, text encoder, second text encoder. */
export function modulesOf(model: BaseModel): KnownModule[] {
  catalog ??= buildCatalog();
  return [...catalog.byPath.values()].filter(({ kinds }) => kinds.has(model));
}

/**
 * What a module is in a model, or in every model that has it; null where they disagree: `proj_in` is a convolution in
 * SD 1.x and a Linear elsewhere.
 */
export function kindOfModule({ kinds }: KnownModule, model: BaseModel | null): ModuleKind | null {
  const known = model === null ? undefined : kinds.get(model);
  if (known !== undefined) return known;
  const distinct = new Set(kinds.values());
  return distinct.size === 1 ? [...distinct][0]! : null;
}

function buildCatalog(): Catalog {
  const lists: readonly (readonly [Component, BaseModel, readonly ModuleSpec[]])[] = [
    ["unet", "sd1", unetModules(SD15_UNET)],
    ["unet", "sd2", unetModules(SD21_UNET)],
    ["unet", "sdxl", sdxlUnetModules()],
    ["text_encoder", "sd1", clipModules(SD15_TEXT)],
    ["text_encoder", "sd2", clipModules(SD21_TEXT)],
    ["text_encoder", "sdxl", clipModules(SD15_TEXT)],
    ["text_encoder_2", "sdxl", sdxlTextEncoder2Modules()],
  ];
  const byPath = new Map<
    string,
    KnownModule & { sdxlName: string | null; kinds: Map<BaseModel, ModuleKind> }
  >();
  for (const [component, model, specs] of lists) {
    const prefixes = PREFIXES[component];
    for (const spec of specs) {
      const kind = kindOfSpec(spec);
      if (kind === null) continue;
      const { path, originalPath } = spec;
      const key = `${component}.${path}`;
      let known = byPath.get(key);
      if (known === undefined) {
        const sdxlName = component === "unet" ? null : flatten(prefixes.sdxl, path);
        known = { component, path, flatName: flatten(prefixes.flat, path), sdxlName, kinds: new Map() };
        byPath.set(key, known);
      }
      if (model === "sdxl" && component === "unet") known.sdxlName = flatten(prefixes.sdxl, originalPath);
      known.kinds.set(model, kind);
    }
  }
  const byKohyaName = new Map<string, KnownModule>();
  for (const known of byPath.values()) {
    byKohyaName.set(known.flatName, known);
    if (known.sdxlName !== null) byKohyaName.set(known.sdxlName, known);
  }
  return { byPath, byKohyaName };
}

function flatten(prefix: string, path: string): string {
  return `${prefix}_${path.replaceAll(".", "_")}`;
}

function kindOfSpec({ kind, weightShape }: ModuleSpec): ModuleKind | null {
  if (kind === "linear") return "linear";
  if (kind !== "conv") return null;
  return weightShape[2] === 1 ? "conv1x1" : "conv3x3";
}
