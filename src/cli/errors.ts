import { DyloraError, type DyloraErrorOptions, type ErrorCode } from "../errors.js";
import { describeSystemError, systemErrorCode } from "../io/file-error.js";
import { SCHEMA_VERSION } from "./json.js";
import { printableLines } from "./printable.js";
import type { OutputStream } from "./terminal.js";

/**
 * Any thrown value as an error with a code. The library throws `DyloraError`; what else arrives here is a system error
 * that nobody expected at that place, or a defect.
 */
export function asDyloraError(error: unknown): DyloraError {
  if (error instanceof DyloraError) return error;
  const code = systemErrorCode(error);
  const known = code === undefined ? undefined : SYSTEM_ERROR_CODES[code];
  if (known !== undefined) {
    const { path } = error as NodeJS.ErrnoException;
    return new DyloraError(
      known,
      path === undefined ? describeSystemError(error) : `${path}: ${describeSystemError(error)}`,
      {
        cause: error,
      },
    );
  }
  const message = error instanceof Error ? error.message : String(error);
  if (/Array buffer allocation failed|Invalid typed array length|heap out of memory/i.test(message)) {
    return new DyloraError("E_MEMORY", `not enough memory: ${message}`, {
      note: "Close other programs, or lower --resolution, --train_batch_size or the number of workers.",
      cause: error,
    });
  }
  const options: DyloraErrorOptions = { note: REPORT, cause: error };
  return new DyloraError(
    "E_INTERNAL",
    message.startsWith("internal:") ? message : `internal: ${message}`,
    options,
  );
}

const REPORT =
  "This is a defect of dylora, not of your input. Please report it with the command you ran, the stack that --debug shows and the output of `dylora doctor`.";

const SYSTEM_ERROR_CODES: Readonly<Record<string, ErrorCode>> = {
  ENOENT: "E_NOT_FOUND",
  ENOTDIR: "E_NOT_FOUND",
  EACCES: "E_READ",
  EPERM: "E_READ",
  EISDIR: "E_READ",
  EIO: "E_READ",
  EMFILE: "E_READ",
  ENOSPC: "E_WRITE",
  EDQUOT: "E_WRITE",
  EROFS: "E_WRITE",
  EFBIG: "E_WRITE",
};

/** Prints an error: for people as message and note, with `--json` as one document; the stack with `--debug` only. */
export function printError(
  error: DyloraError,
  stderr: OutputStream,
  options: { json: boolean; debug: boolean },
): void {
  if (options.json) {
    const { code, message, note, exitCode } = error;
    const stack = options.debug ? { stack: stackOf(error) } : {};
    stderr.write(
      `${JSON.stringify({ schemaVersion: SCHEMA_VERSION, error: { code, message, note: note ?? null, exitCode, ...stack } })}\n`,
    );
    return;
  }
  const { red, bold } = stderr.style;
  stderr.write(`${bold(red(`error[${error.code}]`))}: ${printableLines(error.message)}\n`);
  if (error.note !== undefined) stderr.write(`  note: ${printableLines(error.note)}\n`);
  if (options.debug) stderr.write(`${stackOf(error)}\n`);
}

/** The stacks of an error and of everything that caused it. */
function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const own = error.stack ?? String(error);
  return error.cause === undefined ? own : `${own}\ncaused by ${stackOf(error.cause)}`;
}
