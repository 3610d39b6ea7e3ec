/**
 * Packs what a bare Linux machine with an NVIDIA GPU and no network needs to run parity and the step benchmark.
 *
 *   npm run -s gpu:pack -- [--golden DIR]… [--out FILE.tar.xz]
 *
 * In it: Node, the built package with its production dependencies for linux-x64, the compiled benchmarks, the Vulkan
 * loader, golden data. `tar xJf FILE && dylora-gpu/run.sh` there; the GPU's Vulkan driver is part of NVIDIA's own.
 */

import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, realpathSync, rmSync, statSync } from "node:fs";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import { parseArgs } from "node:util";
import { DyloraError } from "../../src/errors.js";
import { cacheFolder, fail, packageFolder } from "../setting.js";

/** What a machine that is lent for an hour takes at once. */
const LIMIT_BYTES = 64e6;
const NAME = "dylora-gpu";

/** Files of packages that are there for another platform, for compilers or for people. */
const SUPERFLUOUS = /(\.map|\.d\.[cm]?ts|\.md|\.tsbuildinfo|\.test\.js)$/;
/** onnxruntime-node's binaries below `bin/napi-v6`. */
const FOREIGN_RUNTIME = /napi-v6\/(?!linux($|\/x64)|linux$)/;

const LOADERS = ["/usr/lib/x86_64-linux-gnu/libvulkan.so.1", "/usr/lib64/libvulkan.so.1"];

interface PackageJson {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

function main(): void {
  const { values } = parseArgs({
    options: { golden: { type: "string", multiple: true }, out: { type: "string" } },
  });
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new DyloraError("E_USAGE", `gpu:pack packs this machine's own Node, which must be linux-x64`);
  }
  const out = resolve(values.out ?? join(cacheFolder(), `${NAME}.tar.xz`));
  const stage = join(cacheFolder(), "gpu-pack", NAME);
  rmSync(stage, { recursive: true, force: true });
  mkdirSync(stage, { recursive: true });

  const root = packageFolder();
  for (const part of ["package.json", "LICENSE", "bin", "dist"]) {
    copy(join(root, part), join(stage, part));
  }
  for (const part of ["src", "benchmarks"])
    copy(join(cacheFolder(), "tools", part), join(stage, ".cache/tools", part));
  // Where results go, and what marks the folder of the package.
  mkdirSync(join(stage, "benchmarks", "results"), { recursive: true });
  for (const folder of productionPackages(root)) {
    copy(join(root, "node_modules", folder), join(stage, "node_modules", folder));
  }
  copyStripped(process.execPath, join(stage, "node", "bin", "node"));
  copyStripped(vulkanLoader(), join(stage, "lib", "libvulkan.so.1"));
  for (const folder of values.golden ?? []) {
    for (const file of ["cases", "lora", "single-file"]) {
      const name = `${file}.safetensors`;
      copy(join(resolve(folder), name), join(stage, "golden", basename(resolve(folder)), name));
    }
  }
  copy(join(root, "benchmarks", "gpu", "run.sh"), join(stage, "run.sh"));

  rmSync(out, { force: true });
  execFileSync("tar", ["-C", dirname(stage), "--owner=0", "--group=0", "--sort=name", "-cJf", out, NAME], {
    env: { ...process.env, XZ_OPT: "-9e -T1" },
  });
  const { size } = statSync(out);
  console.log(`${out}: ${(size / 1e6).toFixed(1)} MB`);
  if (size > LIMIT_BYTES) {
    throw new DyloraError("E_USAGE", `gpu:pack: ${size} bytes, more than ${LIMIT_BYTES}`, {
      note: "The file is there. Give less golden data.",
    });
  }
}

/** Follows links, leaves out what nobody needs at run time. */
function copy(from: string, to: string): void {
  const source = realpathSync(from);
  mkdirSync(dirname(to), { recursive: true });
  cpSync(source, to, {
    recursive: true,
    dereference: true,
    filter: (path) => {
      const inside = relative(source, path).split(sep).join("/");
      return !SUPERFLUOUS.test(inside) && !FOREIGN_RUNTIME.test(inside);
    },
  });
}

function copyStripped(from: string, to: string): void {
  copy(from, to);
  execFileSync("strip", ["--strip-unneeded", to]);
}

function vulkanLoader(): string {
  const loader = LOADERS.find((path) => existsSync(path));
  if (loader !== undefined) return loader;
  throw new DyloraError("E_NOT_FOUND", `gpu:pack: no Vulkan loader (${LOADERS.join(", ")})`, {
    note: "Debian, Ubuntu: apt-get install libvulkan1",
  });
}

/** Folders below node_modules that the package needs when it runs, nested ones as they lie. */
function productionPackages(root: string): string[] {
  const found = new Set<string>();
  const visit = (from: string) => {
    const json = JSON.parse(readFileSync(join(root, from, "package.json"), "utf8")) as PackageJson;
    for (const name of Object.keys({ ...json.dependencies, ...json.optionalDependencies })) {
      const folder = lookUp(root, from, name);
      // A dependency for another platform is not installed.
      if (folder === null || found.has(folder)) continue;
      found.add(folder);
      visit(join("node_modules", folder));
    }
  };
  visit("");
  return [...found].sort();
}

/** As Node resolves it: in the nearest `node_modules` upwards. */
function lookUp(root: string, from: string, name: string): string | null {
  for (let folder = from; ; folder = dirname(folder) === "." ? "" : dirname(folder)) {
    const candidate = join(folder, "node_modules", name);
    if (existsSync(join(root, candidate, "package.json"))) return relative("node_modules", candidate);
    if (folder === "") return null;
  }
}

try {
  main();
} catch (error) {
  fail(error);
}
