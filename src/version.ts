/** The version of this package. */

import { existsSync, readFileSync } from "node:fs";
import { internalError } from "./errors.js";

let version: string | null = null;

/** As in package.json, for example `0.1.0`. */
export function dyloraVersion(): string {
  version ??= (JSON.parse(readFileSync(packageFile(), "utf8")) as { version: string }).version;
  return version;
}

/** The nearest package.json above this module: one folder up in src and dist, more in the build of the benchmarks. */
function packageFile(): URL {
  let file = new URL("../package.json", import.meta.url);
  while (!existsSync(file)) {
    const above = new URL("../package.json", file);
    if (above.href === file.href) throw internalError("no package.json above the program");
    file = above;
  }
  return file;
}
