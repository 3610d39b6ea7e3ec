/** The singular values of every module: how many ranks an adapter uses, and what each of them is worth. */
import {
  type Adapter,
  COMPONENTS,
  type Component,
  type LoraModule,
  type ModuleKind,
} from "../../adapter/index.js";
import { type ModuleProgressOptions, runOnModules } from "./run-jobs.js";

export interface SpectrumOptions extends ModuleProgressOptions {}

/** What is read off the singular values of one module. */
export interface ModuleSpectrum {
  readonly name: string;
  readonly component: Component;
  readonly kind: ModuleKind;
  readonly rank: number;
  /** Of `alpha / rank · up · down`, what the module adds to the weight; descending, `rank` of them. */
  readonly singularValues: readonly number[];
  /** Frobenius norm. */
  readonly norm: number;
  readonly effectiveRank: number;
  /** The smallest ranks that keep 90, 95 and 99 % of the energy. */
  readonly energyRanks: EnergyRanks;
}

export type EnergyRanks = Readonly<Record<(typeof ENERGY_SHARES)[number], number>>;
export const ENERGY_SHARES = [0.9, 0.95, 0.99] as const;

/** The modules of one component, or all of them. */
export interface SpectrumTotal {
  readonly component: Component | "all";
  readonly modules: number;
  /** Mean of the modules' effective ranks. */
  readonly meanEffectiveRank: number;
  /** Element b - 1: share of the energy that is left when every module is cut off at rank b. */
  readonly energyAtRank: readonly number[];
  readonly energyRanks: EnergyRanks;
}

export interface SpectrumReport {
  readonly path: string;
  readonly maxRank: number;
  readonly modules: readonly ModuleSpectrum[];
  /** All modules, then each component. */
  readonly totals: readonly SpectrumTotal[];
}

/**
 * The singular values of what each module adds to its weight, `alpha / rank · up · down`, in the order of `adapter.modules`.
 *
 * One module is in memory per job; products are never formed.
 *
 * @throws {DyloraError} `E_READ`, `E_INTERRUPTED`; `E_FORMAT` for factors that are not finite
 */
export async function readSingularValues(
  adapter: Adapter,
  options: SpectrumOptions = {},
): Promise<Float64Array[]> {
  const spectra = await runOnModules(adapter, "spectrum", options);
  return spectra.map((values, i) => {
    const scale = scaleOf(adapter.modules[i]!);
    return values.map((value) => value * scale);
  });
}

/** Everything about the spectra as plain data. Errors as `readSingularValues`. */
export async function readSpectrum(adapter: Adapter, options: SpectrumOptions = {}): Promise<SpectrumReport> {
  const values = await readSingularValues(adapter, options);
  const modules = adapter.modules.map(({ name, component, kind, rank }, i): ModuleSpectrum => {
    const singularValues = values[i]!;
    const energies = singularValues.map((value) => value ** 2);
    return {
      name,
      component,
      kind,
      rank,
      singularValues: [...singularValues],
      norm: Math.sqrt(energies.reduce((sum, energy) => sum + energy, 0)),
      effectiveRank: effectiveRank(singularValues),
      energyRanks: energyRanks(shares(energies)),
    };
  });
  const components = COMPONENTS.filter((component) =>
    modules.some((module) => module.component === component),
  );
  const total = (component: Component | "all") =>
    spectrumTotal(
      component,
      modules.filter((module) => component === "all" || module.component === component),
      adapter.maxRank,
    );
  return {
    path: adapter.path,
    maxRank: adapter.maxRank,
    modules,
    totals: [total("all"), ...(components.length > 1 ? components.map(total) : [])],
  };
}

/** What a loader multiplies the product with, without its sign. */
export function scaleOf({ alpha, rank }: Pick<LoraModule, "alpha" | "rank">): number {
  return Math.abs(alpha / rank);
}

/**
 * The exponential of the entropy of the singular values' distribution `p_j = σ_j / Σ σ`: 1 for a product of rank 1, k for k
 * equal values; 0 for a product of zeros.
 *
 * @see Roy & Vetterli 2007, The effective rank: a measure of effective dimensionality (EUSIPCO)
 */
export function effectiveRank(singularValues: Float64Array): number {
  const sum = singularValues.reduce((total, value) => total + value, 0);
  if (sum === 0) return 0;
  let entropy = 0;
  for (const value of singularValues) {
    const p = value / sum;
    if (p > 0) entropy -= p * Math.log(p);
  }
  return Math.exp(entropy);
}

function spectrumTotal(
  component: Component | "all",
  modules: readonly ModuleSpectrum[],
  maxRank: number,
): SpectrumTotal {
  const energies = new Float64Array(maxRank);
  let effective = 0;
  for (const module of modules) {
    for (const [j, value] of module.singularValues.entries()) energies[j] = energies[j]! + value ** 2;
    effective += module.effectiveRank;
  }
  const energyAtRank = shares(energies);
  return {
    component,
    modules: modules.length,
    meanEffectiveRank: modules.length === 0 ? 0 : effective / modules.length,
    energyAtRank: [...energyAtRank],
    energyRanks: energyRanks(energyAtRank),
  };
}

/** Cumulative sums as shares of the whole; all 1 where there is nothing to share. */
function shares(energies: Float64Array): Float64Array {
  const sums = energies.slice();
  for (let k = 1; k < sums.length; k++) sums[k] = sums[k - 1]! + sums[k]!;
  const total = sums.at(-1) ?? 0;
  return sums.map((sum) => (total === 0 ? 1 : sum / total));
}

function energyRanks(cumulative: Float64Array): EnergyRanks {
  const rankFor = (share: number) => cumulative.findIndex((sum) => sum >= share) + 1;
  return Object.fromEntries(ENERGY_SHARES.map((share) => [share, rankFor(share)])) as unknown as EnergyRanks;
}
