/**
 * Norms of `up · down` and of its prefixes without forming them.
 *
 * With `P_b = up[:, :b] · down[:b]` and `H_ij = (down downᵀ)_ij (upᵀ up)_ij`: ⟨P_a, P_b⟩ = Σ_{i < a, j < b} H_ij. Two R x R
 * matrices give all of them.
 */
import { gramMatrix, type LowRankFactors } from "../../linalg/index.js";

/** Element b - 1 of each belongs to the prefix of rank b. */
export interface PrefixProducts {
  /** ‖P_b‖² in the Frobenius norm. */
  readonly energies: Float64Array;
  /** ⟨P_b, P_R⟩: with the whole product. */
  readonly overlaps: Float64Array;
}

/**
 * @param factors - `down` `[R, I]`, `upT` `[R, O]`; where they are not finite, neither is the result
 * @param rank - `R`
 */
export function prefixProducts({ down, upT }: LowRankFactors, rank: number): PrefixProducts {
  const downGram = gramMatrix(down, rank);
  const upGram = gramMatrix(upT, rank);
  const energies = new Float64Array(rank);
  const overlaps = new Float64Array(rank);
  let [energy, overlap] = [0, 0];
  for (let i = 0; i < rank; i++) {
    const element = (j: number) => downGram[i * rank + j]! * upGram[i * rank + j]!;
    // Both are symmetric: the new row and column of the prefix count alike.
    for (let j = 0; j < i; j++) energy += 2 * element(j);
    energy += element(i);
    for (let j = 0; j < rank; j++) overlap += element(j);
    // Rounding can leave a product of almost nothing slightly below zero.
    energies[i] = Math.max(0, energy);
    overlaps[i] = overlap;
  }
  return { energies, overlaps };
}

/**
 * What the direction of each prefix holds of the whole product, strength apart: `⟨P_b, P_R⟩² / ‖P_b‖²`, the squared norm of the
 * projection of `P_R` on `P_b`. `‖P_R‖²` at full rank; where the components are orthogonal, the energy of the first b.
 */
export function projectedEnergies({ energies, overlaps }: PrefixProducts): Float64Array {
  return energies.map((energy, i) => (energy > 0 ? overlaps[i]! ** 2 / energy : 0));
}
