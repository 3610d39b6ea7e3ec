/** What each rank of each module is worth, from the factors alone. */
import type { Adapter } from "../../adapter/index.js";
import { DyloraError } from "../../errors.js";
import { projectedEnergies } from "../svd/product-energy.js";
import { type ModuleProgressOptions, runOnModules } from "../svd/run-jobs.js";
import type { RankCandidates } from "./rank-candidates.js";

/** What the ranks of a file's modules are worth, in one unit for all of them; rank 0 is worth 0. */
export interface RankWorth {
  /**
   * `energy`: how much of the full rank's change of the weights each prefix has the direction of. `calibration`: by how
   * much it lowers the loss on data.
   */
  readonly benefit: "energy" | "calibration";
  /** By module, in the order of the file: by rank, in the order of `RankCandidates.ranks`. */
  readonly values: readonly Float64Array[];
}

/**
 * The energy of each prefix, strength apart: the squared norm of the full rank's `alpha / R · up · down`, projected on the
 * direction of the prefix.
 *
 * The strength is left out because it depends on the rank by the rule of the training: a prefix that points where the
 * whole does loses nothing, whatever its strength, which its own alpha makes what it was in training. For components that
 * are orthogonal, as `nest` makes them, this is the plain energy (sum of squared singular values).
 *
 * @throws {DyloraError} `E_READ`, `E_INTERRUPTED`; `E_FORMAT` for factors that are not finite
 */
export async function measureEnergy(
  adapter: Adapter,
  candidates: readonly RankCandidates[],
  options: ModuleProgressOptions = {},
): Promise<RankWorth> {
  const products = await runOnModules(adapter, "prefixes", options);
  const values = candidates.map(({ module, ranks, scales }, i) => {
    const energies = projectedEnergies(products[i]!);
    if (!energies.every(Number.isFinite)) throw notFinite(adapter.path, module.name);
    // The last rank is the whole.
    return Float64Array.from(ranks, (rank) => energies[rank - 1]! * scales.at(-1)! ** 2);
  });
  return { benefit: "energy", values };
}

function notFinite(path: string, module: string): DyloraError {
  return new DyloraError("E_FORMAT", `${path}: module ${module} holds infinity or NaN`, {
    note: "The file was not changed. A training run that diverged writes such files.",
  });
}
