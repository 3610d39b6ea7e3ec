/** Ranks for all modules together, so that the file is as good as its size allows. */

export interface BudgetModule {
  /** Of what the module adds to the weight, `alpha / rank · up · down`; descending. */
  readonly singularValues: Float64Array;
  /** Of one component in both factors. */
  readonly bytesPerRank: number;
  readonly maxRank: number;
}

/**
 * The ranks that keep the most energy (sum of squared singular values) within a size.
 *
 * Greedy: components are taken in the order of their energy per byte. Every module keeps at least its first. What is left
 * when the next component does not fit goes to later ones that do.
 *
 * @param sizeOf - exact size of the file with these ranks, in bytes; grows with them
 * @returns null where even ranks of 1 are too large
 */
export function ranksForSize(
  modules: readonly BudgetModule[],
  targetBytes: number,
  sizeOf: (ranks: readonly number[]) => number,
): number[] | null {
  const components = rankedComponents(modules);
  const ranksOfFirst = (count: number) => {
    const ranks = modules.map(() => 1);
    for (const { module } of components.slice(0, count)) ranks[module]!++;
    return ranks;
  };
  const fits = (ranks: readonly number[]) => sizeOf(ranks) <= targetBytes;
  if (!fits(ranksOfFirst(0))) return null;

  let [fitting, tooMany] = [0, components.length + 1];
  while (tooMany - fitting > 1) {
    const middle = (fitting + tooMany) >> 1;
    if (fits(ranksOfFirst(middle))) fitting = middle;
    else tooMany = middle;
  }
  return fillUp(ranksOfFirst(fitting), components.slice(fitting), modules, targetBytes, sizeOf);
}

interface Component {
  /** Index of the module. */
  readonly module: number;
  readonly gain: number;
}

/** All components but the first of each module, the most energy per byte first. */
function rankedComponents(modules: readonly BudgetModule[]): Component[] {
  const components = modules.flatMap(({ singularValues, bytesPerRank, maxRank }, module) =>
    Array.from(singularValues.subarray(1, maxRank), (value) => ({ module, gain: value ** 2 / bytesPerRank })),
  );
  // Stable: of a module's components with equal values the earlier one stays first.
  return components.sort((a, b) => b.gain - a.gain);
}

/** Takes smaller components into the space that is too small for the next one. */
function fillUp(
  ranks: number[],
  rest: readonly Component[],
  modules: readonly BudgetModule[],
  targetBytes: number,
  sizeOf: (ranks: readonly number[]) => number,
): number[] {
  let leftBytes = targetBytes - sizeOf(ranks);
  // A module whose next component did not fit gets none of its later ones either: they are as large.
  const full = new Set<number>();
  for (const { module } of rest) {
    if (full.size === modules.length) break;
    if (full.has(module)) continue;
    if (modules[module]!.bytesPerRank > leftBytes) {
      full.add(module);
      continue;
    }
    ranks[module]!++;
    // The header may have grown as well.
    const left = targetBytes - sizeOf(ranks);
    if (left >= 0) {
      leftBytes = left;
    } else {
      ranks[module]!--;
      full.add(module);
    }
  }
  return ranks;
}
