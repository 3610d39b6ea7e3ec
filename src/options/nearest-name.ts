import { distance } from "fastest-levenshtein";
import { knownNames, type OptionTable } from "./option-spec.js";

/** The option of a table that `name` was probably meant to be: by likeness, or by another trainer's word for it. */
export function nearestOption(
  name: string,
  table: OptionTable,
  foreignNames: Iterable<string> = [],
): string | null {
  const names = knownNames(table);
  for (const foreign of foreignNames) names.set(foreign, foreign);
  const nearest = nearestName(name, names.keys());
  return nearest === null ? null : (names.get(nearest) ?? null);
}

/**
 * The known name that is most like `name`, or null when none is close enough to be what was meant.
 * `-` and `_` count as the same; case does not count.
 */
export function nearestName(name: string, known: Iterable<string>): string | null {
  const wanted = normalise(name);
  let nearest: string | null = null;
  // A third of the letters may differ; more than that and the suggestion would puzzle rather than help.
  let limit = Math.max(2, Math.floor(wanted.length / 3)) + 1;
  for (const candidate of known) {
    const edits = distance(wanted, normalise(candidate));
    if (edits < limit) {
      nearest = candidate;
      limit = edits;
    }
  }
  return nearest;
}

function normalise(name: string): string {
  return name.toLowerCase().replaceAll("-", "_");
}
