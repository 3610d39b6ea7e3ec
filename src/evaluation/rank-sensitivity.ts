/** How the loss depends on the ranks of each module, from gradients near the ranks that are wanted. */
import type { FactorGradients } from "../denoiser/factors.js";
import { type ActiveModule, type BranchFactors, upWidth } from "../denoiser/factors.js";

/** A module, the ranks that it may be cut off at, and where the prediction starts. */
export interface SensitivityModule {
  readonly factors: BranchFactors;
  /** Ascending; the last one is its own. */
  readonly ranks: readonly number[];
  /** By rank: what the product of the first components is multiplied with. */
  readonly scales: readonly number[];
  /** One of `ranks`. */
  readonly reference: number;
}

/**
 * Predicts for every module and rank how the loss changes when the module, instead of having its reference rank, is cut off
 * there, to second order.
 *
 * With a gate `z_i` on each component, rank b is a point in the space of the gates: `r_b = scale_b / scale_R` for the first b,
 * 0 for the others. From the reference to b is a step `δ_b`, and `ΔL(b) ≈ gᵀδ_b + ½ δ_bᵀ H δ_b`. For a squared error
 * `L = ‖e‖² / D` the Gauss-Newton matrix is `H = 2/D · JᵀJ`; with the gradient of one sample, `g = 2/D · Jᵀe`, and errors that are
 * equally large in all directions, `E[(gᵀδ)²] = 2L/D · δᵀHδ`. So
 *
 *     ΔL(b) ≈ mean over samples of  gᵀδ_b + D (gᵀδ_b)² / (4 L),      gᵀδ_b = r_b Σ_{i≤b} g_i - r_ref Σ_{i≤ref} g_i.
 *
 * The gates' gradients come with those of the factors: `g_i = Σ_o ∂L/∂up_oi · up_oi`, for gates that are closed, too. All
 * components of a module are treated together (a prefix that does what the reference does changes nothing, however its
 * components share the work); modules are taken to be independent of each other.
 *
 * The reference is a rank for all modules, as they were trained together, near the size that is wanted: the strength of the
 * paper's rule depends on the rank, so that the full rank of all would be far away, and its loss need not be the lowest.
 *
 * @see Molchanov et al. 2019, Importance estimation for neural network pruning (arXiv:1906.10771), for gates and both orders of
 *   the expansion; Theis et al. 2018, Faster gaze prediction with dense networks and Fisher pruning (arXiv:1801.05787), for
 *   the curvature from squared gradients
 */
export class RankSensitivity {
  readonly #modules: readonly SensitivityModule[];
  /** By module and rank: the sums of what is averaged. */
  readonly #losses: readonly Float64Array[];
  /** By module: the same without the module. */
  readonly #absent: Float64Array;
  #samples = 0;

  constructor(modules: readonly SensitivityModule[]) {
    this.#modules = modules;
    this.#losses = modules.map(({ ranks }) => new Float64Array(ranks.length));
    this.#absent = new Float64Array(modules.length);
  }

  /**
   * Adds one sample: gradients of its loss alone, with the modules of {@link atReference}.
   *
   * @param loss - mean of the squared errors
   * @param elements - how many errors there are, `D`
   * @param gradients - by target name; a module without one does not influence the loss
   */
  add(loss: number, elements: number, gradients: ReadonlyMap<string, FactorGradients>): void {
    this.#samples++;
    // Without any error no gradient says anything.
    if (loss === 0) return;
    const curvature = elements / (4 * loss);
    const change = (step: number) => step + curvature * step ** 2;
    for (const [index, module] of this.#modules.entries()) {
      const { factors, ranks, reference } = module;
      const gradient = gradients.get(factors.target.name);
      if (gradient === undefined) continue;
      const prefixes = prefixSums(gateGradients(factors, gradient));
      const positionOf = (rank: number) => strengthAt(module, rank) * prefixes[rank - 1]!;
      const start = positionOf(reference);
      const losses = this.#losses[index]!;
      for (const [k, rank] of ranks.entries()) losses[k]! += change(positionOf(rank) - start);
      this.#absent[index]! += change(-start);
    }
  }

  /** By module and rank: by how much the loss is lower than without the module. */
  saved(): Float64Array[] {
    return this.#losses.map((losses, index) =>
      losses.map((loss) => (this.#absent[index]! - loss) / Math.max(1, this.#samples)),
    );
  }
}

/**
 * A module as it has to be active for the gradients: at its reference rank, with gates that are closed behind it, so that
 * every component gets a gradient.
 */
export function atReference(module: SensitivityModule): ActiveModule {
  const { factors, scales, reference } = module;
  const strength = strengthAt(module, reference);
  const open = reference * upWidth(factors.target);
  const up = factors.up.map((value, k) => (k < open ? value * strength : 0));
  return { factors: { ...factors, up }, rank: factors.maxRank, scale: scales.at(-1)! };
}

/** `scale_b / scale_R` */
function strengthAt({ ranks, scales }: SensitivityModule, rank: number): number {
  const full = scales.at(-1)!;
  // An alpha of 0 makes every gradient 0.
  return full === 0 ? 1 : scales[ranks.indexOf(rank)]! / full;
}

/** `∂L/∂z_i = Σ_o ∂L/∂up_oi · up_oi`, `[R]`. */
function gateGradients({ target, maxRank, up }: BranchFactors, gradient: FactorGradients): Float64Array {
  const width = upWidth(target);
  const gates = new Float64Array(maxRank);
  for (let i = 0; i < maxRank; i++) {
    let sum = 0;
    for (let k = i * width; k < (i + 1) * width; k++) sum += gradient.up[k]! * up[k]!;
    gates[i] = sum;
  }
  return gates;
}

function prefixSums(values: Float64Array): Float64Array {
  let sum = 0;
  return values.map((value) => {
    sum += value;
    return sum;
  });
}
