/** Several adapters as one sum: for every module the terms `scale · up · down` that add up to it. */
import {
  type Adapter,
  BASE_MODEL_TITLES,
  type BaseModel,
  type Component,
  type LoraModule,
  type ModuleKind,
  readBaseModel,
} from "../../adapter/index.js";
import { DyloraError } from "../../errors.js";
import { moduleIdentity } from "../common/module-identity.js";
import { type BlockWeights, blockOfModule } from "./block-weights.js";

/** One adapter with its strength. */
export interface MergeInput {
  readonly adapter: Adapter;
  /** Any finite number; negative ones subtract. */
  readonly ratio: number;
  /** Times `ratio`, by block of the U-Net. Default: 1 everywhere. */
  readonly blockWeights?: BlockWeights | null;
}

export interface MergeTerm {
  readonly adapter: Adapter;
  readonly module: LoraModule;
  /** `ratio · block weight · alpha / rank`; never 0. */
  readonly scale: number;
}

/** What the adapters add to one module of the base model. Axes: `I` input features, `O` output features. */
export interface MergeModule {
  /** As the first adapter that has it names it. */
  readonly name: string;
  readonly component: Component;
  readonly kind: ModuleKind;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** At least one. */
  readonly terms: readonly MergeTerm[];
}

export interface MergeSum {
  /** In the order in which the adapters name them first. */
  readonly modules: readonly MergeModule[];
  /** Modules whose every strength is 0: they are left out. */
  readonly silenced: readonly string[];
  /** Null where neither metadata nor shapes say. */
  readonly baseModel: BaseModel | null;
  /** What the user should know. Sentences. */
  readonly notes: readonly string[];
}

/**
 * Collects the terms of a merge.
 *
 * @throws {DyloraError} `E_USAGE` for a ratio that is no finite number, or where nothing is left to merge;
 *   `E_INCOMPATIBLE` for adapters of different base models
 */
export function collectTerms(inputs: readonly MergeInput[], subject: string): MergeSum {
  if (inputs.length === 0) throw usage(`${subject}: no adapter was given`, "Give one file or more.");
  for (const { ratio, adapter } of inputs) {
    if (!Number.isFinite(ratio)) throw usage(`${subject}: the ratio of ${adapter.path} is ${ratio}`, "");
  }
  const baseModel = commonBaseModel(inputs, subject);
  const modules = new Map<string, MergeModule & { terms: MergeTerm[] }>();
  const silenced: string[] = [];
  for (const { adapter, ratio, blockWeights } of inputs) {
    for (const module of adapter.modules) {
      const key = moduleIdentity(module);
      let sum = modules.get(key);
      if (sum === undefined) {
        const { name, component, kind, inFeatures, outFeatures } = module;
        sum = { name, component, kind, inFeatures, outFeatures, terms: [] };
        modules.set(key, sum);
      }
      checkShape(sum, module, adapter, subject);
      const scale = (ratio * blockWeight(module.name, blockWeights) * module.alpha) / module.rank;
      if (scale !== 0) sum.terms.push({ adapter, module, scale });
    }
  }
  for (const [key, { name, terms }] of modules) {
    if (terms.length > 0) continue;
    silenced.push(name);
    modules.delete(key);
  }
  if (modules.size === 0) {
    throw usage(
      `${subject}: every module has strength 0`,
      "Check the ratios, the block weights and the files' alphas.",
    );
  }
  return { modules: [...modules.values()], silenced, baseModel, notes: notesOf(inputs, silenced) };
}

function blockWeight(module: string, weights: BlockWeights | null | undefined): number {
  const block = blockOfModule(module);
  return block === null ? 1 : (weights?.get(block) ?? 1);
}

function checkShape(sum: MergeModule, module: LoraModule, adapter: Adapter, subject: string): void {
  const same =
    sum.inFeatures === module.inFeatures &&
    sum.outFeatures === module.outFeatures &&
    (sum.kind === "conv3x3") === (module.kind === "conv3x3");
  if (same) return;
  const describe = ({
    kind,
    inFeatures,
    outFeatures,
  }: Pick<MergeModule, "kind" | "inFeatures" | "outFeatures">) => `${kind} ${inFeatures} -> ${outFeatures}`;
  throw new DyloraError(
    "E_INCOMPATIBLE",
    `${subject}: module ${module.name} is ${describe(module)} in ${adapter.path}, ${describe(sum)} in the adapters before it`,
    { note: "Nothing was written. Merge adapters that were trained on the same kind of base model." },
  );
}

function commonBaseModel(inputs: readonly MergeInput[], subject: string): BaseModel | null {
  let found: { readonly model: BaseModel; readonly path: string } | null = null;
  for (const { adapter } of inputs) {
    const { fromMetadata, fromShapes } = readBaseModel(adapter.metadata, adapter.modules);
    // Names and shapes cannot lie.
    const model = fromShapes ?? fromMetadata;
    if (model === null) continue;
    if (found !== null && found.model !== model) {
      throw new DyloraError(
        "E_INCOMPATIBLE",
        `${subject}: ${found.path} is made for ${BASE_MODEL_TITLES[found.model]}, ${adapter.path} for ${BASE_MODEL_TITLES[model]}`,
        { note: "Nothing was written. Merge adapters that were trained on the same kind of base model." },
      );
    }
    found ??= { model, path: adapter.path };
  }
  return found?.model ?? null;
}

function notesOf(inputs: readonly MergeInput[], silenced: readonly string[]): string[] {
  const notes: string[] = [];
  const predictions = new Set(
    inputs.map(({ adapter }) => readBaseModel(adapter.metadata, adapter.modules).predictionType),
  );
  if (predictions.has("epsilon") && predictions.has("v_prediction")) {
    notes.push("Some adapters were trained for epsilon, some for v prediction: the sum may do neither well.");
  }
  for (const { adapter, blockWeights } of inputs) {
    if (blockWeights == null) continue;
    const blocks = new Set(adapter.modules.map(({ name }) => blockOfModule(name)));
    const unnamed = [...blocks].filter((block) => block !== null && !blockWeights.has(block)).sort();
    if (unnamed.length > 0) {
      notes.push(
        `${adapter.path} has modules in blocks that the block weights do not name (${unnamed.join(", ")}): they keep weight 1.`,
      );
    }
  }
  if (silenced.length > 0) notes.push(`${silenced.length} modules have strength 0 and are left out.`);
  return notes;
}

function usage(message: string, note: string): DyloraError {
  return new DyloraError("E_USAGE", message, { note: `${note} Nothing was written.`.trim() });
}
