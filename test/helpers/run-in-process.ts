/** Runs a command line in this process: as a user does, but without waiting a second for another Node.js. */
import { runCli } from "../../src/cli/main.js";
import { memoryTerminal } from "./memory-terminal.js";
import type { ProgramResult } from "./run-program.js";

/** @param options - `cwd`: where relative paths start; the process is there until the promise settles */
export async function runInProcess(
  args: readonly string[],
  { cwd }: { readonly cwd: string },
): Promise<ProgramResult> {
  const before = process.cwd();
  const { stdout, stderr } = memoryTerminal();
  process.chdir(cwd);
  try {
    const status = await runCli(args, { stdout, stderr });
    return { status, stdout: stdout.text, stderr: stderr.text };
  } finally {
    process.chdir(before);
  }
}
