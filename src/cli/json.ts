import type { OutputStream } from "./terminal.js";

/** Version of the documents that `--json` prints. Fields may be added within a version; none changes or goes. */
export const SCHEMA_VERSION = 1;

/** One document on stdout, readable by people too. */
export function writeDocument(stdout: OutputStream, document: object): void {
  stdout.write(`${JSON.stringify({ schemaVersion: SCHEMA_VERSION, ...document }, null, 2)}\n`);
}

/** One event, one line. */
export function writeEvent(stdout: OutputStream, event: object): void {
  stdout.write(`${JSON.stringify({ schemaVersion: SCHEMA_VERSION, ...event })}\n`);
}
