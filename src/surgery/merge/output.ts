/** What must hold of an output before long work begins. */
import { realpath } from "node:fs/promises";
import { DyloraError } from "../../errors.js";
import { existsError } from "../../io/index.js";

/**
 * Refuses to write over a file that is being read, or over any file without being told to.
 *
 * @throws {DyloraError} `E_EXISTS`
 */
export async function checkOutput(
  operation: string,
  outputPath: string,
  inputPaths: readonly string[],
  overwrite: boolean,
): Promise<void> {
  const target = await realpath(outputPath).catch(() => null);
  if (target === null) return;
  for (const path of inputPaths) {
    if ((await realpath(path).catch(() => null)) !== target) continue;
    throw new DyloraError("E_EXISTS", `${operation}: ${outputPath} is one of the files that are read`, {
      note: "Nothing was written. Choose another name for the output.",
    });
  }
  if (!overwrite) throw existsError(outputPath);
}
