/** Turns the operating system's errors into dylora's, with the words a user needs to act. */
import { DyloraError, type DyloraErrorOptions, type ErrorCode } from "../errors.js";

const EXPLANATIONS: Readonly<Record<string, string>> = {
  EACCES: "permission denied",
  EBUSY: "it is in use by another program",
  EDQUOT: "the disk quota is used up",
  EFBIG: "the file is larger than the file system allows",
  EIO: "the device reported an input/output error",
  EISDIR: "it is a folder",
  ELOOP: "too many symbolic links",
  EMFILE: "too many files are open",
  ENAMETOOLONG: "the file name is too long",
  ENOENT: "no such file or folder",
  ENOSPC: "no space left on the device",
  ENOTDIR: "a part of the path is not a folder",
  EPERM: "operation not permitted",
  EROFS: "the file system is read-only",
};

/** The `code` of a Node.js system error (`ENOSPC`, …), or undefined for anything else. */
export function systemErrorCode(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const { code } = error as NodeJS.ErrnoException;
  return typeof code === "string" ? code : undefined;
}

/** `no space left on the device (ENOSPC)`, or the error's own message where it is no system error. */
export function describeSystemError(error: unknown): string {
  const code = systemErrorCode(error);
  const explanation = code === undefined ? undefined : EXPLANATIONS[code];
  if (explanation !== undefined) return `${explanation} (${code})`;
  return error instanceof Error ? error.message : String(error);
}

/** `E_NOT_FOUND` where the file is not there, `E_READ` for every other reason. */
export function readError(path: string, cause: unknown): DyloraError {
  if (cause instanceof DyloraError) return cause;
  const code: ErrorCode = systemErrorCode(cause) === "ENOENT" ? "E_NOT_FOUND" : "E_READ";
  return new DyloraError(code, `read ${path}: ${describeSystemError(cause)}`, {
    note: code === "E_NOT_FOUND" ? "Check the path." : "Nothing was changed.",
    cause,
  });
}

/** `E_WRITE` that says what became of the target. */
export function writeError(path: string, cause: unknown, options: DyloraErrorOptions = {}): DyloraError {
  if (cause instanceof DyloraError) return cause;
  return new DyloraError("E_WRITE", `write ${path}: ${describeSystemError(cause)}`, {
    note: options.note ?? `${path} was not touched and no temporary file is left. ${remedy(cause)}`,
    cause,
  });
}

/** `E_EXISTS` for a target that is already there. */
export function existsError(path: string): DyloraError {
  return new DyloraError("E_EXISTS", `write ${path}: the file already exists`, {
    note: "It was not touched. Choose another name or folder, or use --force to replace it.",
  });
}

function remedy(cause: unknown): string {
  switch (systemErrorCode(cause)) {
    case "ENOSPC":
    case "EDQUOT":
      return "Free some space or write to another disk.";
    case "ENOENT":
    case "ENOTDIR":
      return "Create the folder first, or choose another one.";
    default:
      return "Choose a folder you can write to.";
  }
}
