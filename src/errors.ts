/**
 * Every error that dylora throws on purpose.
 *
 * The `code` is API and stays; the wording is not. A message says which operation on which subject failed, what was
 * expected and what was found; the note says what was left untouched and what to do next.
 */

/** Exit status of the command line for each error code (see README, "Exit codes"). */
export const ERROR_EXIT_CODES = {
  /** A defect of dylora itself. */
  E_INTERNAL: 1,
  /** A write failed: disk full, folder not writable. */
  E_WRITE: 1,
  /** Command line: unknown option, missing or impossible value. */
  E_USAGE: 2,
  /** Configuration that does not hold together (file or options), or does not fit the state to be resumed. */
  E_CONFIG: 2,
  /** Output exists and `--force` was not given. */
  E_EXISTS: 2,
  /** The training or evaluation data is missing, empty or in the wrong folder form. */
  E_DATA: 2,
  /** A rank above the maximum, or not a multiple of the unit. */
  E_RANK: 2,
  /** A file or folder that should be read is not there. */
  E_NOT_FOUND: 3,
  /** A file is there but cannot be read (permissions, I/O error). */
  E_READ: 3,
  /** The bytes are not a valid file of their format (truncated, lying header, unknown dtype). */
  E_FORMAT: 3,
  /** A valid file, but not one this operation can take (wrong base model, dialect, module kind, shape, dtype). */
  E_INCOMPATIBLE: 3,
  /** The requested device is missing or cannot run the graph. */
  E_DEVICE: 4,
  /** Not enough memory. */
  E_MEMORY: 4,
  /** A loss or gradient stopped being finite. */
  E_DIVERGED: 5,
  /** Interrupted by the user; the state was saved. */
  E_INTERRUPTED: 130,
} as const;

export type ErrorCode = keyof typeof ERROR_EXIT_CODES;

export interface DyloraErrorOptions {
  /** What was left untouched, and what to do next. */
  note?: string;
  cause?: unknown;
}

export class DyloraError extends Error {
  override readonly name = "DyloraError";
  readonly code: ErrorCode;
  readonly note: string | undefined;

  constructor(code: ErrorCode, message: string, options: DyloraErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.note = options.note;
  }

  /** Exit status of the command line for this error. */
  get exitCode(): number {
    return ERROR_EXIT_CODES[this.code];
  }
}

/** An error for a state that correct code never reaches. */
export function internalError(message: string): DyloraError {
  return new DyloraError("E_INTERNAL", `internal: ${message}`, {
    note: "This is a defect of dylora, not of your input: please report it with the command you ran.",
  });
}
