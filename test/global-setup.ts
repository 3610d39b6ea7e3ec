/** Builds `dist` once before the end-to-end tests, where a source is newer than the last build. */
import { execFileSync } from "node:child_process";
import { readdirSync, statSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

export function setup(): void {
  if (newestSource() < modifiedAt(path.join(root, "dist", "program", "main.js"))) return;
  execFileSync("npm", ["run", "--silent", "build"], {
    cwd: root,
    shell: process.platform === "win32",
    stdio: "inherit",
  });
}

function newestSource(): number {
  const sources = readdirSync(path.join(root, "src"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts"))
    .map((name) => path.join("src", name));
  return Math.max(
    ...[...sources, "package.json", "tsconfig.json", "tsconfig.build.json", "esbuild.config.ts"].map((name) =>
      modifiedAt(path.join(root, name)),
    ),
  );
}

/** Milliseconds since 1970; 0 for a file that is not there. */
function modifiedAt(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}
