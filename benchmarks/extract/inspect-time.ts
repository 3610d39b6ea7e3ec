/** How long `dylora inspect` takes, from the command being typed to its end. */

import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { median, packageFolder } from "../setting.js";

export interface InspectFigures {
  /** The whole command. */
  readonly medianMs: number;
  /** Of a Node that does nothing. */
  readonly nodeStartMs: number;
}

const RUNS = 11;

/** Read by Node when it starts, which takes it some 100 ms more than everything else and has nothing to do with the program. */
const { NODE_EXTRA_CA_CERTS: _, ...ENVIRONMENT } = process.env;

/** The built program on a file whose header is all that is read. */
export function timeInspect(path: string): InspectFigures | { readonly problem: string } {
  const program = join(packageFolder(), "bin", "dylora.js");
  if (!existsSync(join(packageFolder(), "dist"))) return { problem: "not timed: run `npm run build` first" };
  const inspect = [program, "inspect", path, "--no-norms", "--json"];
  const { status, stderr } = spawnSync(process.execPath, inspect, { encoding: "utf8" });
  if (status !== 0) return { problem: `it failed: ${stderr.trim()}` };
  // In turn, so that what else the machine does meets both.
  const times = Array.from({ length: RUNS }, () => ({
    inspect: elapsedMs(inspect),
    nothing: elapsedMs(["-e", "0"]),
  }));
  return {
    medianMs: median(times.map((time) => time.inspect)),
    nodeStartMs: median(times.map((time) => time.nothing)),
  };
}

function elapsedMs(args: readonly string[]): number {
  const began = performance.now();
  spawnSync(process.execPath, args, { stdio: "ignore", env: ENVIRONMENT });
  return performance.now() - began;
}
