/** A folder of PEFT's as the target of an operation: replaced only if it holds nothing else. */
import { readdir, realpath, stat } from "node:fs/promises";
import { join, sep } from "node:path";
import { COMPONENTS } from "../../adapter/index.js";
import { PEFT_CONFIG, PEFT_WEIGHTS } from "../../adapter/peft-folder.js";
import { DyloraError } from "../../errors.js";
import { existsError } from "../../io/index.js";

/**
 * Refuses what must not be replaced: any file, any folder unless `overwrite`, a folder with anything but an adapter in it,
 * and one that an input is in.
 *
 * @param operation - for errors: `convert cat.safetensors`
 * @throws {DyloraError} `E_EXISTS`
 */
export async function checkPeftTarget(
  operation: string,
  path: string,
  inputs: readonly string[],
  overwrite: boolean,
): Promise<void> {
  const stats = await stat(path).catch(() => null);
  if (stats === null) return;
  if (!stats.isDirectory()) {
    throw exists(
      operation,
      `${path} is a file, and PEFT's adapters are folders`,
      "Choose the name of a folder.",
    );
  }
  const target = await realpath(path);
  for (const input of inputs) {
    if (!(await realpath(input)).startsWith(target + sep)) continue;
    throw exists(operation, `it is in the folder that would be written, ${path}`, "Choose another folder.");
  }
  if (!overwrite) throw existsError(path);
  const foreign = await foreignEntries(path);
  if (foreign.length > 0) {
    const some = foreign.slice(0, 3).join(", ") + (foreign.length > 3 ? ", …" : "");
    throw exists(
      operation,
      `the folder ${path} holds more than an adapter of PEFT's (${some})`,
      "--force would remove those files. Choose another folder, or move them away.",
    );
  }
}

/** What is in a folder besides the files of an adapter of PEFT's. */
async function foreignEntries(path: string, isComponent = false): Promise<string[]> {
  const foreign: string[] = [];
  for (const entry of await readdir(path, { withFileTypes: true })) {
    if (entry.isFile() && [PEFT_WEIGHTS, PEFT_CONFIG].includes(entry.name)) continue;
    const isFolder = entry.isDirectory() && (COMPONENTS as readonly string[]).includes(entry.name);
    if (isComponent || !isFolder) {
      foreign.push(entry.name);
      continue;
    }
    const below = await foreignEntries(join(path, entry.name), true);
    foreign.push(...below.map((name) => join(entry.name, name)));
  }
  return foreign;
}

function exists(operation: string, reason: string, remedy: string): DyloraError {
  return new DyloraError("E_EXISTS", `${operation}: ${reason}`, { note: `Nothing was written. ${remedy}` });
}
