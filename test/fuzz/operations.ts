/** What is done to a mutated file, and what must hold afterwards. */
import { mkdir, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { openAdapter, WRITTEN_DIALECTS } from "../../src/adapter/index.js";
import { DyloraError, type ErrorCode } from "../../src/errors.js";
import { SafetensorsFile } from "../../src/safetensors/index.js";
import { convert } from "../../src/surgery/convert/convert.js";
import { planConvert } from "../../src/surgery/convert/plan.js";
import { editMetadata } from "../../src/surgery/edit/edit.js";
import { extract, inspectAdapter, planExtract } from "../../src/surgery/index.js";
import { planMerge, runMerge } from "../../src/surgery/merge/merge.js";
import { verifyFile } from "../../src/surgery/verify/verify.js";

/** What a damaged file may be answered with; anything else is a defect of dylora. */
const ALLOWED: ReadonlySet<ErrorCode> = new Set([
  "E_FORMAT",
  "E_INCOMPATIBLE",
  "E_READ",
  "E_RANK",
  "E_USAGE",
]);

/** Longest that any operation on a file of 10 kB may take on a busy machine. */
const SLOW_MS = 5000;

export const OPERATIONS: Readonly<Record<string, (path: string, out: string) => Promise<unknown>>> = {
  async inspect(path) {
    return inspectAdapter(path, { norms: true, verifyHash: true });
  },
  async extract(path, out) {
    await using parent = await openAdapter(path);
    return await extract(planExtract(parent, { all: true }, { outDir: out }));
  },
  async convert(path, out) {
    await using source = await openAdapter(path, { foreign: "keep" });
    // Another dialect than its own, whichever it is.
    const to = WRITTEN_DIALECTS.find((dialect) => dialect !== source.dialect)!;
    return await convert(await planConvert(source, { to, path: join(out, "converted"), keepUnknown: true }));
  },
  async merge(path, out) {
    await using adapter = await openAdapter(path);
    return await runMerge(
      planMerge([{ adapter, ratio: 0.5 }], { path: join(out, "merged.safetensors"), rank: 1 }),
    );
  },
  async edit(path, out) {
    return editMetadata(path, { set: { note: "x" } }, { path: join(out, "edited.safetensors") });
  },
  async verify(path) {
    return verifyFile(path);
  },
};

/** `ok`, or the code of the error. */
export type Outcome = "ok" | ErrorCode;

/** What must never happen. */
export class FuzzFailure extends Error {}

/**
 * Runs one operation.
 *
 * @param out - an empty folder; it is empty again afterwards
 * @throws {FuzzFailure} for an error that is no `DyloraError` of an expected code, for files left behind by a failure, for an
 *   output that cannot be read, and for slowness
 */
export async function runOperation(name: string, path: string, out: string): Promise<Outcome> {
  const startMs = performance.now();
  let outcome: Outcome = "ok";
  try {
    await OPERATIONS[name]!(path, out);
  } catch (error) {
    if (!(error instanceof DyloraError))
      throw new FuzzFailure(`${name}: ${describe(error)}`, { cause: error });
    if (!ALLOWED.has(error.code))
      throw new FuzzFailure(`${name}: ${error.code}: ${describe(error)}`, { cause: error });
    if (error.message === "" || error.note === "") throw new FuzzFailure(`${name}: an error without words`);
    outcome = error.code;
  }
  const elapsedMs = performance.now() - startMs;
  if (elapsedMs > SLOW_MS) throw new FuzzFailure(`${name}: took ${elapsedMs.toFixed(0)} ms`);
  await checkOutput(name, out, outcome);
  return outcome;
}

async function checkOutput(name: string, out: string, outcome: Outcome): Promise<void> {
  const entries = await readdir(out, { recursive: true });
  if (entries.length === 0) return;
  if (outcome !== "ok")
    throw new FuzzFailure(`${name}: failed with ${outcome} and left ${entries.join(", ")}`);
  for (const entry of entries) {
    if (entry.split(/[/\\]/).some((part) => part.startsWith("."))) {
      throw new FuzzFailure(`${name}: left the temporary file ${entry}`);
    }
    const path = join(out, entry);
    if ((await stat(path)).isDirectory() || path.endsWith(".json")) continue;
    await using written = await SafetensorsFile.open(path);
    if (written.header.dataStartBytes % 8 !== 0) throw new FuzzFailure(`${name}: ${entry} is not aligned`);
  }
  await rm(out, { recursive: true });
  await mkdir(out);
}

function describe(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}\n${error.stack ?? ""}` : String(error);
}
