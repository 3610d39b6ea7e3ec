/** Does an adapter belong to this base model? Compared module by module, before anything is loaded. */
import { DyloraError } from "../errors.js";
import { type LoraTarget, loraFactorShapes } from "./lora-targets.js";

/** What is compared of an adapter's module; `LoraModule` of src/adapter is one. */
export interface AdapterModuleShape {
  /** Kohya's module name. */
  readonly name: string;
  readonly down: { readonly shape: readonly number[] };
  readonly up: { readonly shape: readonly number[] };
}

export interface AdapterMatch<M extends AdapterModuleShape> {
  /** Every module of the adapter with the target it belongs to, in the adapter's order. */
  readonly matched: readonly { readonly module: M; readonly target: LoraTarget }[];
  /** Targets that the adapter has no module for, in the targets' order. */
  readonly untouched: readonly LoraTarget[];
}

/** How many misfits an error spells out. */
const NAMED_MISFITS = 3;

/**
 * Pairs an adapter's modules with a base model's targets.
 *
 * 1x1 convolutions and Linear layers are interchangeable (SD 1.x `proj_in` arrives in both forms).
 *
 * @param targets - all that the base offers: from `loraTargets` with `convDim: true` and both components, so that a
 *   module counts as foreign only if the base really lacks it
 * @throws {DyloraError} `E_INCOMPATIBLE` if a module is not in the base or has other widths; the message names the first
 *   ones, the note says which base the adapter seems made for
 */
export function checkAdapterFitsBase<M extends AdapterModuleShape>(
  targets: readonly LoraTarget[],
  adapterModules: readonly M[],
): AdapterMatch<M> {
  const targetByName = new Map(targets.map((target) => [target.name, target]));
  const matched: { module: M; target: LoraTarget }[] = [];
  const misfits: string[] = [];
  for (const module of adapterModules) {
    const target = targetByName.get(module.name);
    const misfit = target === undefined ? "not in this base model" : describeMisfit(module, target);
    if (misfit !== null) misfits.push(`${module.name} (${misfit})`);
    else if (target !== undefined) matched.push({ module, target });
  }
  if (misfits.length > 0) throw misfitError(targets, adapterModules, misfits);
  const covered = new Set(matched.map(({ target }) => target));
  return { matched, untouched: targets.filter((target) => !covered.has(target)) };
}

function describeMisfit(module: AdapterModuleShape, target: LoraTarget): string | null {
  const rank = module.down.shape[0] ?? 0;
  const expected = loraFactorShapes(target, rank);
  const fits =
    sameShape(module.down.shape, expected.down) && sameShape(module.up.shape, expected.up) && rank > 0;
  if (fits) return null;
  const [down, up] = [expected.down, expected.up].map((shape) => `[${shape.join(", ")}]`);
  return `expected down ${down} and up ${up}, found [${module.down.shape.join(", ")}] and [${module.up.shape.join(", ")}]`;
}

/** Equal but for trailing dimensions of size 1. */
function sameShape(found: readonly number[], expected: readonly number[]): boolean {
  const length = Math.max(found.length, expected.length);
  return Array.from({ length }, (_, i) => (found[i] ?? 1) === (expected[i] ?? 1)).every(Boolean);
}

function misfitError(
  targets: readonly LoraTarget[],
  modules: readonly AdapterModuleShape[],
  misfits: readonly string[],
): DyloraError {
  const named = misfits.slice(0, NAMED_MISFITS).join("; ");
  const more = misfits.length > NAMED_MISFITS ? `; and ${misfits.length - NAMED_MISFITS} more` : "";
  const base = describeBase(targetWidths(targets));
  return new DyloraError(
    "E_INCOMPATIBLE",
    `match adapter and base model: ${misfits.length} of ${modules.length} modules do not fit: ${named}${more}`,
    {
      note:
        `The adapter seems made for ${describeAdapterBase(modules)}; the base model given is ${base}. ` +
        "Nothing was changed. Give the base model that the adapter was trained on, or an adapter made for this one.",
    },
  );
}

/** The widths that tell the model families apart. */
interface Widths {
  /** Width of the text embeddings that cross attention reads. */
  context: number | null;
  /** Width of the U-Net's first level. */
  firstLevel: number | null;
  textEncoder: number | null;
}

const CONTEXT_MODULE = /^lora_unet_.*_attn2_to_k$/;
const FIRST_LEVEL_MODULE = /^lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q$/;
const TEXT_ENCODER_MODULE = /^lora_te_text_model_encoder_layers_\d+_self_attn_q_proj$/;

function targetWidths(targets: readonly LoraTarget[]): Widths {
  return findWidths(targets.map(({ name, inFeatures }) => ({ name, inFeatures })));
}

function findWidths(modules: readonly { name: string; inFeatures: number }[]): Widths {
  const width = (pattern: RegExp) => modules.find(({ name }) => pattern.test(name))?.inFeatures ?? null;
  return {
    context: width(CONTEXT_MODULE),
    firstLevel: width(FIRST_LEVEL_MODULE),
    textEncoder: width(TEXT_ENCODER_MODULE),
  };
}

/** Families whose module names alone give them away. */
const FOREIGN_NAMES: readonly (readonly [RegExp, string])[] = [
  [/^lora_te[12]_|^lora_unet_(input|output|middle)_blocks?_/, "SDXL"],
  [/^lora_unet_(double|single)_blocks_/, "Flux"],
  [/^lora_unet_joint_blocks_/, "Stable Diffusion 3"],
];

function describeAdapterBase(modules: readonly AdapterModuleShape[]): string {
  for (const [pattern, family] of FOREIGN_NAMES) {
    if (modules.some(({ name }) => pattern.test(name))) return family;
  }
  return describeBase(
    findWidths(modules.map(({ name, down }) => ({ name, inFeatures: down.shape[1] ?? 0 }))),
  );
}

/** Text encoder widths of the published families. */
const FAMILY_BY_CONTEXT: ReadonlyMap<number, string> = new Map([
  [768, "Stable Diffusion 1.x"],
  [1024, "Stable Diffusion 2.x"],
  [2048, "SDXL"],
]);

function describeBase(widths: Widths): string {
  const family = FAMILY_BY_CONTEXT.get(widths.context ?? widths.textEncoder ?? 0) ?? "a model of other sizes";
  const details = [
    widths.context === null ? null : `context width ${widths.context}`,
    widths.firstLevel === null ? null : `first level ${widths.firstLevel}`,
    widths.textEncoder === null ? null : `text encoder ${widths.textEncoder}`,
  ].filter((detail) => detail !== null);
  return details.length === 0 ? family : `${family} (${details.join(", ")})`;
}
