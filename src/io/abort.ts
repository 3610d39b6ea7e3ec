/** Cancellation of long work. */
import { DyloraError } from "../errors.js";

/**
 * Throws if the caller asked to stop.
 *
 * @param operation - what is given up, and what is left: `extract: stopped, no file was written`
 * @throws {DyloraError} `E_INTERRUPTED`
 */
export function throwIfAborted(signal: AbortSignal | undefined, operation: string): void {
  if (signal?.aborted) {
    throw new DyloraError("E_INTERRUPTED", `${operation}: interrupted`, {
      note: "Nothing half-written is left behind.",
      cause: signal.reason,
    });
  }
}
