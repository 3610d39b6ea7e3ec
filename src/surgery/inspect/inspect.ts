/** What an adapter is: everything that its header tells, and on request what its numbers tell. Plain data. */
// Imported from the files themselves: loading what the other operations need takes longer than reading a header.
import { readBaseModel } from "../../adapter/base-model.js";
import type {
  Adapter,
  BaseModelFacts,
  Component,
  DialectId,
  DyloraFacts,
  ForeignMethod,
  LoraModule,
  ModuleKind,
} from "../../adapter/index.js";
import { parameterCount } from "../../adapter/module.js";
import { openAdapter } from "../../adapter/open-adapter.js";
import type { Dtype, TensorInfo } from "../../safetensors/index.js";
import type { ModuleProgressOptions } from "../svd/run-jobs.js";

export interface InspectOptions extends ModuleProgressOptions {
  /** Read all factors: norms, and for a DyLoRA the energy of every rank. Default false: only the header is read. */
  readonly norms?: boolean;
  /** Read all data and compare their hash with the stored one. Default false. */
  readonly verifyHash?: boolean;
}

export interface Range {
  readonly min: number;
  readonly max: number;
}

export interface ModuleReport {
  readonly name: string;
  readonly component: Component;
  readonly kind: ModuleKind;
  readonly rank: number;
  readonly alpha: number;
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly parameters: number;
  readonly dtype: Dtype;
  /** Frobenius norm of what the module adds to the weight, `alpha / rank · up · down`; null unless asked for. */
  readonly norm: number | null;
}

/** Modules of one component and kind. */
export interface ModuleGroupReport {
  readonly component: Component;
  readonly kind: ModuleKind;
  readonly modules: number;
  readonly ranks: Range;
  readonly alphas: Range;
  readonly parameters: number;
}

/** How much of the full product's energy (squared norm) the prefix of each rank has. */
export interface EnergyReport {
  readonly component: Component | "all";
  /** Ascending; the last is the full rank with share 1. A share above 1: later components take something back. */
  readonly prefixes: readonly { readonly rank: number; readonly share: number }[];
}

export interface AdapterReport {
  readonly path: string;
  readonly fileSizeBytes: number;
  readonly headerSizeBytes: number;
  readonly dialect: DialectId;
  readonly baseModel: BaseModelFacts;
  readonly dylora: DyloraFacts;
  readonly parameters: number;
  readonly dtypes: Readonly<Partial<Record<Dtype, number>>>;
  readonly groups: readonly ModuleGroupReport[];
  readonly modules: readonly ModuleReport[];
  readonly foreignModules: readonly {
    readonly name: string;
    readonly component: Component;
    readonly methods: readonly ForeignMethod[];
  }[];
  /** Every tensor of the file, in its order. */
  readonly tensors: readonly TensorInfo[];
  /** Names that the dialect does not know. */
  readonly unknownTensors: readonly string[];
  readonly metadata: Readonly<Record<string, string>>;
  readonly hash: {
    /** `sshs_model_hash` of the metadata, or null. */
    readonly stated: string | null;
    /** Null unless asked for. */
    readonly computed: string | null;
    /** Null unless both are there. */
    readonly matches: boolean | null;
  };
  /** All modules, then each component; null unless asked for and a DyLoRA. */
  readonly energy: readonly EnergyReport[] | null;
}

/**
 * Inspects an adapter. Without options only the header and the alphas are read.
 *
 * LyCORIS modules and unknown tensors are listed; the names of other model families are an error that says which.
 *
 * @throws {DyloraError} as `openAdapter`; `E_INTERRUPTED`
 */
export async function inspectAdapter(path: string, options: InspectOptions = {}): Promise<AdapterReport> {
  const adapter = await openAdapter(path, { foreign: "keep" });
  try {
    const { file, metadata, modules, dylora } = adapter;
    const energies = options.norms ? await readEnergies(adapter, options) : null;
    const computed = options.verifyHash ? await hashOf(file) : null;
    const stated = metadata.sshs_model_hash ?? null;
    const tensors = [...file.header.tensors.values()];
    return {
      path,
      fileSizeBytes: file.sizeBytes,
      headerSizeBytes: file.header.dataStartBytes,
      dialect: adapter.dialect,
      baseModel: readBaseModel(metadata, modules),
      dylora,
      parameters: modules.reduce((sum, module) => sum + parameterCount(module), 0),
      dtypes: countDtypes(tensors),
      groups: groupModules(modules),
      modules: modules.map((module, i) => moduleReport(module, energies?.[i] ?? null)),
      foreignModules: adapter.foreignModules.map(({ name, component, methods }) => ({
        name,
        component,
        methods,
      })),
      tensors,
      unknownTensors: adapter.unknownTensors.map(({ name }) => name),
      metadata,
      hash: { stated, computed, matches: stated === null || computed === null ? null : stated === computed },
      energy: energies !== null && dylora.isDylora ? energyReports(adapter, energies) : null,
    };
  } finally {
    await adapter.close();
  }
}

async function hashOf(file: Adapter["file"]): Promise<string> {
  const { computeModelHash, sha256Stream } = await import("../../safetensors/index.js");
  return computeModelHash(file, sha256Stream());
}

/** By module: squared norms of `alpha / rank · up · down` cut off at each rank. */
async function readEnergies(adapter: Adapter, options: InspectOptions): Promise<Float64Array[]> {
  // Loaded when it is needed: reading a header takes less time than loading the arithmetic.
  const { runOnModules } = await import("../svd/run-jobs.js");
  const products = await runOnModules(adapter, "prefixes", options);
  return products.map(({ energies }, i) => {
    const { alpha, rank } = adapter.modules[i]!;
    return energies.map((energy) => energy * (alpha / rank) ** 2);
  });
}

function moduleReport(module: LoraModule, energies: Float64Array | null): ModuleReport {
  const { name, component, kind, rank, alpha, inFeatures, outFeatures, down } = module;
  return {
    name,
    component,
    kind,
    rank,
    alpha,
    inFeatures,
    outFeatures,
    parameters: parameterCount(module),
    dtype: down.dtype,
    norm: energies === null ? null : Math.sqrt(energies[rank - 1]!),
  };
}

function groupModules(modules: readonly LoraModule[]): ModuleGroupReport[] {
  const groups = new Map<string, LoraModule[]>();
  for (const module of modules) {
    const key = `${module.component} ${module.kind}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [module]);
    else group.push(module);
  }
  return [...groups.values()].map((group) => ({
    component: group[0]!.component,
    kind: group[0]!.kind,
    modules: group.length,
    ranks: rangeOf(group.map(({ rank }) => rank)),
    alphas: rangeOf(group.map(({ alpha }) => alpha)),
    parameters: group.reduce((sum, module) => sum + parameterCount(module), 0),
  }));
}

function rangeOf(values: readonly number[]): Range {
  return { min: Math.min(...values), max: Math.max(...values) };
}

function countDtypes(tensors: readonly TensorInfo[]): Partial<Record<Dtype, number>> {
  const counts: Partial<Record<Dtype, number>> = {};
  for (const { dtype } of tensors) counts[dtype] = (counts[dtype] ?? 0) + 1;
  return counts;
}

function energyReports({ modules, dylora }: Adapter, energies: readonly Float64Array[]): EnergyReport[] {
  const { maxRank } = dylora;
  const unit = dylora.unit ?? 1;
  const ranks = Array.from({ length: Math.ceil(maxRank / unit) }, (_, i) =>
    Math.min((i + 1) * unit, maxRank),
  );
  const components = [...new Set(modules.map(({ component }) => component))];
  return (["all", ...components] as const).map((component) => {
    const included = modules
      .map((module, i) => ({ module, energy: energies[i]! }))
      .filter(({ module }) => component === "all" || module.component === component);
    const energyAt = (rank: number) =>
      included.reduce((sum, { module, energy }) => sum + energy[Math.min(rank, module.rank) - 1]!, 0);
    const full = energyAt(maxRank);
    return {
      component,
      prefixes: ranks.map((rank) => ({ rank, share: full === 0 ? 0 : energyAt(rank) / full })),
    };
  });
}
