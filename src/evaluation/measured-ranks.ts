/** Which ranks of several files are measured. */

import type { Adapter } from "../adapter/index.js";
import { DyloraError } from "../errors.js";
import { selectRanks } from "../surgery/index.js";

/** Ranks of one file that are measured when none are named; a table of more is no longer read. */
const MOST_DEFAULT_RANKS = 8;

/** What is known of a file before its factors are read. */
type RankFacts = Pick<Adapter, "path" | "maxRank" | "dylora">;

/**
 * The ranks to measure each file at, ascending; its maximum, which the others are compared with, is always among them.
 *
 * Named ranks are for the files that have them: a file of rank 8 is measured at 4 and 8 where 4, 8 and 16 are named.
 * Ordinary LoRAs are measured whole beside a DyLoRA, as their prefixes mean nothing; where no file says that it is a DyLoRA
 * (its metadata may be lost), named ranks are taken from all of them.
 *
 * @param named - as the user gave them, 0 (the base model) included; null for up to 8 of those that were trained
 * @param files - all of them
 * @throws {DyloraError} `E_RANK` for a named rank that no file has; the note lists those that there are
 */
export function measuredRanks(named: readonly number[] | null, files: readonly RankFacts[]): number[][] {
  const wanted = named === null ? null : named.filter((rank) => rank > 0);
  const dyloras = files.filter(({ dylora }) => dylora.isDylora);
  const nested = new Set(dyloras.length === 0 && wanted !== null ? files : dyloras);
  const refusals = new Map<number, unknown>();
  const has = (file: RankFacts, rank: number) => {
    try {
      selectRanks({ ranks: [rank] }, file.dylora, `bench ${file.path}`);
      return true;
    } catch (error) {
      if (!(error instanceof DyloraError && error.code === "E_RANK")) throw error;
      if (!refusals.has(rank)) refusals.set(rank, error);
      return false;
    }
  };
  const found = new Set<number>();
  const ranks = files.map((file) => {
    const { maxRank } = file;
    if (wanted?.includes(maxRank)) found.add(maxRank);
    if (!nested.has(file)) return [maxRank];
    if (wanted === null) return defaultRanks(file);
    const own = wanted.filter((rank) => has(file, rank));
    for (const rank of own) found.add(rank);
    return [...new Set([...own, maxRank])].sort((a, b) => a - b);
  });
  for (const [rank, refusal] of refusals) if (!found.has(rank)) throw refusal;
  return ranks;
}

function defaultRanks({ path, dylora }: RankFacts): number[] {
  const all = selectRanks({ all: true }, dylora, `bench ${path}`);
  const step = Math.ceil(all.length / MOST_DEFAULT_RANKS);
  // Counted from the maximum down, so that it is one of them.
  return all.filter((_, index) => (all.length - 1 - index) % step === 0);
}
