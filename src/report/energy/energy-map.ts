/** Where in the model an adapter's change lies, and in which of its components. */

import { type Adapter, readFactors } from "../../adapter/index.js";
import { throwIfAborted } from "../../io/index.js";
import { blockOfModule } from "../../surgery/merge/block-weights.js";
import { readSingularValues, scaleOf } from "../../surgery/svd/spectrum.js";

/** More columns than this are not told apart. */
const MOST_COLUMNS = 32;

export interface EnergyBlock {
  /** As in kohya's and supermerger's block weights: `IN04`, `M00`; text encoders by layer: `TE 03`. */
  readonly name: string;
  readonly part: EnergyPart;
  readonly modules: number;
  /** By column; the sum over all blocks and columns is 1 (0 for an adapter of zeros). */
  readonly energies: readonly number[];
}

export const ENERGY_PARTS = ["text encoder", "input blocks", "middle", "output blocks", "other"] as const;
export type EnergyPart = (typeof ENERGY_PARTS)[number];

/** Components `first` to `last`, counted from 1, both inclusive. */
export interface ComponentRange {
  readonly first: number;
  readonly last: number;
}

export interface EnergyMap {
  /**
   * `nested`: of the components as they lie in the file, which lower ranks take from the front. `singular`: of the singular
   * directions, the strongest first, because the components of an ordinary LoRA have no order.
   */
  readonly order: "nested" | "singular";
  readonly maxRank: number;
  readonly columns: readonly ComponentRange[];
  readonly blocks: readonly EnergyBlock[];
}

/**
 * The squared Frobenius norm of what each component adds to the weights, as a share of all of them.
 *
 * Component j of a module adds `alpha / rank · up[:, j] · down[j]`, whose squared norm is the product of the squared lengths
 * of its two vectors.
 *
 * @throws {DyloraError} `E_READ`, `E_INTERRUPTED`; `E_FORMAT` for factors that are not finite
 */
export async function readEnergyMap(adapter: Adapter, signal?: AbortSignal): Promise<EnergyMap> {
  const { modules, maxRank, dylora } = adapter;
  const order = dylora.isDylora ? "nested" : "singular";
  const energiesOfModules =
    order === "nested"
      ? await componentEnergies(adapter, signal)
      : (await readSingularValues(adapter, signal ? { signal } : {})).map((values) =>
          values.map((value) => value ** 2),
        );
  const columns = columnsOf(maxRank, dylora.unit ?? 1);
  const blocks = new Map<string, { part: EnergyPart; modules: number; energies: number[] }>();
  let total = 0;
  for (const [index, { name }] of modules.entries()) {
    const place = placeOf(name);
    const block = blocks.get(place.name) ?? {
      part: place.part,
      modules: 0,
      energies: new Array<number>(columns.length).fill(0),
    };
    blocks.set(place.name, block);
    block.modules++;
    for (const [component, energy] of energiesOfModules[index]!.entries()) {
      const column = columns.findIndex(({ last }) => component < last);
      block.energies[column]! += energy;
      total += energy;
    }
  }
  return {
    order,
    maxRank,
    columns,
    blocks: [...blocks]
      .map(
        ([name, block]): EnergyBlock => ({
          name,
          ...block,
          energies: block.energies.map((energy) => (total === 0 ? 0 : energy / total)),
        }),
      )
      .sort(
        (a, b) =>
          ENERGY_PARTS.indexOf(a.part) - ENERGY_PARTS.indexOf(b.part) ||
          (a.name < b.name ? -1 : a.name > b.name ? 1 : 0),
      ),
  };
}

async function componentEnergies(adapter: Adapter, signal?: AbortSignal): Promise<Float64Array[]> {
  const result: Float64Array[] = [];
  for (const module of adapter.modules) {
    throwIfAborted(signal, `read ${adapter.path}`);
    const { down, upT } = await readFactors(adapter.file, module);
    const scale = scaleOf(module) ** 2;
    const { rank } = module;
    result.push(
      Float64Array.from(
        { length: rank },
        (_, component) => scale * squaredLength(down, component, rank) * squaredLength(upT, component, rank),
      ),
    );
  }
  return result;
}

/** Of one row of `rows`, `[rank, N]`. */
function squaredLength(rows: Float32Array, row: number, rank: number): number {
  const width = rows.length / rank;
  let sum = 0;
  for (let i = row * width; i < (row + 1) * width; i++) sum += rows[i]! ** 2;
  return sum;
}

/** Whole units, as many to a column as it takes to have few enough columns. */
function columnsOf(maxRank: number, unit: number): ComponentRange[] {
  const width = unit * Math.ceil(maxRank / unit / MOST_COLUMNS);
  return Array.from({ length: Math.ceil(maxRank / width) }, (_, index) => ({
    first: index * width + 1,
    last: Math.min(maxRank, (index + 1) * width),
  }));
}

function placeOf(module: string): { name: string; part: EnergyPart } {
  const layer = /^lora_te([12]?)_.*?layers_(\d+)_/.exec(module);
  if (layer !== null) {
    return { name: `TE${layer[1]} ${layer[2]!.padStart(2, "0")}`, part: "text encoder" };
  }
  const block = blockOfModule(module);
  if (block === null) return { name: "other", part: "other" };
  if (block === "BASE") return { name: "TE", part: "text encoder" };
  const part = block === "M00" ? "middle" : block.startsWith("IN") ? "input blocks" : "output blocks";
  return { name: block, part };
}
