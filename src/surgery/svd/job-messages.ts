/** What goes between a `JobPool` and its threads. */
import { DyloraError, type ErrorCode } from "../../errors.js";
import type { JobName } from "./module-jobs.js";

export interface JobRequest {
  readonly ticket: number;
  readonly name: JobName;
  readonly input: unknown;
}

export type JobReply =
  | { readonly ticket: number; readonly result: unknown }
  | { readonly ticket: number; readonly error: ThreadError };

/** A `DyloraError` on its way between threads; `code` null for anything else that was thrown. */
export interface ThreadError {
  readonly code: ErrorCode | null;
  readonly message: string;
  readonly note: string | undefined;
}

/** The memory of all typed arrays inside a plain value that is not shared: it is handed over instead of copied. */
export function transferables(value: unknown): ArrayBuffer[] {
  const buffers = new Set<ArrayBuffer>();
  const visit = (part: unknown): void => {
    if (ArrayBuffer.isView(part)) {
      if (part.buffer instanceof ArrayBuffer) buffers.add(part.buffer);
    } else if (typeof part === "object" && part !== null) {
      for (const inner of Object.values(part)) visit(inner);
    }
  };
  visit(value);
  return [...buffers];
}

export function toThread(error: unknown): ThreadError {
  if (error instanceof DyloraError) return { code: error.code, message: error.message, note: error.note };
  return { code: null, message: error instanceof Error ? error.message : String(error), note: undefined };
}

export function fromThread({ code, message, note }: ThreadError): Error {
  if (code === null) return new Error(message);
  return new DyloraError(code, message, note === undefined ? {} : { note });
}
