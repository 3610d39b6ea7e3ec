/** What a rank of a file is called: a file of mixed ranks has no one rank, only the largest of its modules. */

interface Ranked {
  readonly maxRank: number;
  /** Whether its modules have ranks of their own, up to `maxRank`. */
  readonly isMixed: boolean;
}

/** Whether this rank stands for all the ranks of a mix. */
export function isMix({ isMixed, maxRank }: Ranked, rank: number): boolean {
  return isMixed && rank === maxRank;
}

/** In a sentence: `rank 8`, `the mix up to rank 16`. */
export function rankName(file: Ranked, rank: number): string {
  return isMix(file, rank) ? `the mix up to rank ${rank}` : `rank ${rank}`;
}

/** Where it stands alone: `rank 8`, `ranks to 16`. */
export function rankTitle(file: Ranked, rank: number): string {
  return isMix(file, rank) ? `ranks to ${rank}` : `rank ${rank}`;
}

/** Where `rank` stands above it: `8`, `to 16`. */
export function rankLabel(file: Ranked, rank: number): string {
  return isMix(file, rank) ? `to ${rank}` : String(rank);
}
