/** Ranks for all modules together, so that the file is as good as its size allows. */

export interface BudgetModule {
  /** The ranks that it can have besides 0, ascending. */
  readonly ranks: readonly number[];
  /** What each of them is worth, in one unit for all modules; rank 0 is worth 0. Neither order nor sign is assumed. */
  readonly values: ArrayLike<number>;
  /** Of one component in both factors. */
  readonly bytesPerRank: number;
}

/** A file is as large as it was asked to be within this share of it, where its modules allow that. */
export const SIZE_TOLERANCE = 0.02;

export interface BudgetRules {
  /** Bytes. */
  readonly target: number;
  /** Exact size of the file with these ranks, in bytes; grows with them. */
  readonly sizeOf: (ranks: readonly number[]) => number;
  /** The lowest rank of a module: the first of its `ranks`, or none, which leaves it out of the file. */
  readonly lowest: "first" | "none";
}

/**
 * The ranks that are worth the most within a size.
 *
 * Greedy: every module's values are replaced by their upper concave envelope, whose pieces are taken in the order of their
 * worth per byte. That is optimal as long as the next piece fits (the linear relaxation of the multiple-choice knapsack
 * problem, Sinha & Zoltners 1979). Then single ranks fill the space that is too small for the next piece, and where more than
 * {@link SIZE_TOLERANCE} of the target is left, ranks that are said to be worth less than a lower one, the least loss first.
 * A rank that is worth exactly as much as a lower one is never taken, so that a file may still be smaller than its target.
 *
 * @returns null where even the lowest ranks are too large
 */
export function ranksForSize(modules: readonly BudgetModule[], rules: BudgetRules): number[] | null {
  const { target, sizeOf, lowest } = rules;
  const start: number = lowest === "first" ? 0 : -1;
  const pieces = modules.flatMap((module, index) => envelope(module, index, start));
  // Stable: of a module's pieces with equal slopes the earlier one stays first.
  pieces.sort((a, b) => b.slope - a.slope);
  const positionsAfter = (count: number) => {
    const positions = modules.map(() => start);
    for (const { module, to } of pieces.slice(0, count)) positions[module] = to;
    return positions;
  };
  const ranksAt = (positions: readonly number[]) => positions.map((at, i) => modules[i]!.ranks[at] ?? 0);
  const sizeAt = (positions: readonly number[]) => sizeOf(ranksAt(positions));
  if (sizeAt(positionsAfter(0)) > target) return null;

  let [fitting, tooMany] = [0, pieces.length + 1];
  while (tooMany - fitting > 1) {
    const middle = (fitting + tooMany) >> 1;
    if (sizeAt(positionsAfter(middle)) <= target) fitting = middle;
    else tooMany = middle;
  }
  const positions = positionsAfter(fitting);
  const worthwhile = { target, enough: target, isWanted: (slope: number) => slope > 0 };
  fillUp(positions, modules, worthwhile, sizeAt);
  // A worth that was measured is not exact, and a size that was asked for is.
  const anything = {
    target,
    enough: target * (1 - SIZE_TOLERANCE),
    isWanted: (slope: number) => slope !== 0,
  };
  fillUp(positions, modules, anything, sizeAt);
  fillUp(positions, modules, worthwhile, sizeAt);
  return ranksAt(positions);
}

interface FillRules {
  /** Bytes. */
  readonly target: number;
  /** Bytes from which on nothing more is taken. */
  readonly enough: number;
  /** By worth per byte. */
  readonly isWanted: (slope: number) => boolean;
}

/** An edge of a module's envelope; positions are indices of its `ranks`, -1 for rank 0. */
interface Piece {
  readonly module: number;
  readonly to: number;
  /** Worth per byte. */
  readonly slope: number;
}

/** The rising part of the upper concave envelope of the values from a position on. */
function envelope(module: BudgetModule, index: number, start: number): Piece[] {
  const pieces: Piece[] = [];
  for (let at = start; ; ) {
    const next = bestStep(module, at, Number.POSITIVE_INFINITY, (slope) => slope > 0);
    if (next === null) return pieces;
    pieces.push({ module: index, ...next });
    at = next.to;
  }
}

/**
 * The later position with the most worth per byte, and of several the last one; null where none is wanted or fits.
 *
 * @param roomBytes - what it may take more than the position that it starts from
 */
function bestStep(
  module: BudgetModule,
  from: number,
  roomBytes: number,
  isWanted: FillRules["isWanted"],
): Omit<Piece, "module"> | null {
  const { ranks, values } = module;
  let best: Omit<Piece, "module"> | null = null;
  for (let to = from + 1; to < ranks.length; to++) {
    const bytes = stepBytes(module, from, to);
    if (bytes > roomBytes) break;
    const slope = (values[to]! - (from < 0 ? 0 : values[from]!)) / bytes;
    if (isWanted(slope) && slope >= (best?.slope ?? Number.NEGATIVE_INFINITY)) best = { to, slope };
  }
  return best;
}

/** Takes what still fits, the most worth per byte first. */
function fillUp(
  positions: number[],
  modules: readonly BudgetModule[],
  { target, enough, isWanted }: FillRules,
  sizeAt: (positions: readonly number[]) => number,
): void {
  let roomBytes = target - sizeAt(positions);
  // By module; 0 where nothing more fits. What did not fit once never will.
  const rooms = modules.map(() => Number.POSITIVE_INFINITY);
  while (target - roomBytes < enough) {
    let best: Piece | null = null;
    for (const [index, module] of modules.entries()) {
      if (rooms[index] === 0) continue;
      const step = bestStep(module, positions[index]!, Math.min(roomBytes, rooms[index]!), isWanted);
      if (step === null) rooms[index] = 0;
      else if (step.slope > (best?.slope ?? Number.NEGATIVE_INFINITY)) best = { module: index, ...step };
    }
    if (best === null) return;
    const before = positions[best.module]!;
    positions[best.module] = best.to;
    const left = target - sizeAt(positions);
    if (left >= 0) {
      roomBytes = left;
    } else {
      // The header would grow as well: only something smaller has a chance.
      positions[best.module] = before;
      rooms[best.module] = stepBytes(modules[best.module]!, before, best.to) - 1;
    }
  }
}

function stepBytes({ ranks, bytesPerRank }: BudgetModule, from: number, to: number): number {
  return (ranks[to]! - (ranks[from] ?? 0)) * bytesPerRank;
}
