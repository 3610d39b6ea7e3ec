/** Wording shared by everything that reads a checkpoint. */
import { DyloraError } from "../../errors.js";

/** How many names an error spells out before it only counts. */
const NAMED = 5;

/** An `E_INCOMPATIBLE` of opening a checkpoint: nothing is ever changed by that, so the note only says what to do. */
export function incompatible(path: string, problem: string, note: string, cause?: unknown): DyloraError {
  return new DyloraError("E_INCOMPATIBLE", `open checkpoint ${path}: ${problem}`, { note, cause });
}

/** `a, b, c, d, e and 12 more`. */
export function nameSome(names: readonly string[]): string {
  const named = names.slice(0, NAMED).join(", ");
  return names.length > NAMED ? `${named} and ${names.length - NAMED} more` : named;
}

export function formatShape(shape: readonly number[]): string {
  return `[${shape.join(", ")}]`;
}
