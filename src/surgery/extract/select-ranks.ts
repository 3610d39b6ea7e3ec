/** Which ranks to extract. */
import type { DyloraFacts } from "../../adapter/index.js";
import { DyloraError } from "../../errors.js";

/** These ranks; or every multiple of a unit, and the maximum; or every rank that the file was trained for. */
export type RankSelection =
  | { readonly ranks: readonly number[] }
  | { readonly unit: number }
  | { readonly all: true };

/**
 * The ranks of a selection, ascending, each once.
 *
 * @throws {DyloraError} `E_RANK` for a rank that the file does not have
 */
export function selectRanks(selection: RankSelection, facts: DyloraFacts, subject: string): number[] {
  const { maxRank } = facts;
  const unit = facts.unit ?? 1;
  if ("ranks" in selection) {
    if (selection.ranks.length === 0) throw rankError(`${subject}: no ranks were given`, facts);
    for (const rank of selection.ranks) checkRank(rank, facts, subject);
    return [...new Set(selection.ranks)].sort((a, b) => a - b);
  }
  if ("unit" in selection) {
    checkCount(selection.unit, `${subject}: unit`, facts);
    if (selection.unit > maxRank) {
      throw rankError(`${subject}: unit ${selection.unit} is above the largest rank, ${maxRank}`, facts);
    }
    if (selection.unit % unit !== 0) {
      throw rankError(`${subject}: unit ${selection.unit} is no multiple of the file's unit ${unit}`, facts);
    }
    return multiples(selection.unit, maxRank);
  }
  const trained = facts.trainedRanks?.filter((rank) => rank <= maxRank) ?? multiples(unit, maxRank);
  return trained.includes(maxRank) ? trained : [...trained, maxRank];
}

function checkRank(rank: number, facts: DyloraFacts, subject: string): void {
  const { maxRank, unit } = facts;
  checkCount(rank, `${subject}: rank`, facts);
  if (rank > maxRank)
    throw rankError(`${subject}: rank ${rank} is above the largest rank, ${maxRank}`, facts);
  if (unit !== null && rank % unit !== 0 && rank !== maxRank) {
    throw rankError(`${subject}: rank ${rank} is no multiple of the unit ${unit}`, facts);
  }
}

function checkCount(value: number, what: string, facts: DyloraFacts): void {
  if (!(Number.isSafeInteger(value) && value >= 1)) {
    throw rankError(`${what} ${value} is no whole number of 1 or more`, facts);
  }
}

function rankError(message: string, { unit, maxRank }: DyloraFacts): DyloraError {
  const ranks = multiples(unit ?? 1, maxRank);
  const list = ranks.length <= 8 ? ranks.join(", ") : `${ranks.slice(0, 3).join(", ")}, … ${maxRank}`;
  return new DyloraError("E_RANK", message, {
    note: `Nothing was written. Possible ranks: ${list}.`,
  });
}

/** `unit`, 2 · `unit`, …, and `maxRank` even where it is no multiple. */
function multiples(unit: number, maxRank: number): number[] {
  const ranks = Array.from({ length: Math.floor(maxRank / unit) }, (_, i) => (i + 1) * unit);
  return ranks.at(-1) === maxRank ? ranks : [...ranks, maxRank];
}
