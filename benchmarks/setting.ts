/** Where a benchmark runs: folders, machine, versions; and where its results are kept. */

import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { appendFile, mkdir } from "node:fs/promises";
import { createRequire } from "node:module";
import { cpus, loadavg, release, totalmem, type } from "node:os";
import { dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { DyloraError } from "../src/errors.js";
import { dyloraVersion } from "../src/version.js";

/** The folder of the package, whether this module runs as it is or compiled into `.cache/tools`. */
export function packageFolder(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!(existsSync(join(folder, "package.json")) && existsSync(join(folder, "benchmarks")))) {
    folder = dirname(folder);
  }
  return folder;
}

/** For files that are made once; ignored by git. */
export function cacheFolder(): string {
  return join(packageFolder(), ".cache");
}

/** Whether the module of this URL is the program, not a part of one. */
export function isMain(moduleUrl: string): boolean {
  return process.argv[1] !== undefined && fileURLToPath(moduleUrl) === process.argv[1];
}

/** The path of the module `name` beside another module. */
export function besideModule(moduleUrl: string, name: string): string {
  return join(dirname(fileURLToPath(moduleUrl)), `${name}${extname(moduleUrl)}`);
}

/** @throws {DyloraError} `E_USAGE` for a value that is none of the choices */
export function choice<Choice extends string>(
  option: string,
  value: string,
  choices: readonly Choice[],
): Choice {
  const chosen = choices.find((candidate) => candidate === value);
  if (chosen !== undefined) return chosen;
  throw new DyloraError("E_USAGE", `--${option} expects one of ${choices.join(", ")}, found ${value}`);
}

/** @throws {DyloraError} `E_USAGE` for anything but a whole number of at least `min` */
export function wholeNumber(option: string, value: string, min: number): number {
  const number = Number(value);
  if (value.trim() !== "" && Number.isInteger(number) && number >= min) return number;
  throw new DyloraError("E_USAGE", `--${option} expects a whole number of at least ${min}, found ${value}`);
}

export interface Setting {
  readonly date: string;
  readonly machine: {
    readonly cpu: string;
    readonly cores: number;
    readonly memoryBytes: number;
    readonly system: string;
    /** Processes that wanted to run, on average over the last minute: what else the machine did when this began. */
    readonly loadAverage: number;
  };
  readonly versions: Readonly<Record<"dylora" | "node" | "onnxruntime", string>>;
  /** With `-dirty` where the working tree differs from it; null outside a repository. */
  readonly commit: string | null;
}

/** Everything that figures depend on beside the options. Taken before the work starts. */
export function setting(): Setting {
  const [first] = cpus();
  return {
    date: new Date().toISOString(),
    machine: {
      cpu: first?.model.trim() ?? process.arch,
      cores: cpus().length,
      memoryBytes: totalmem(),
      system: `${type()} ${release()} ${process.arch}`,
      loadAverage: loadavg()[0]!,
    },
    versions: { dylora: dyloraVersion(), node: process.version, onnxruntime: onnxruntimeVersion() },
    commit: commit(),
  };
}

function onnxruntimeVersion(): string {
  const require = createRequire(import.meta.url);
  return (require("onnxruntime-node/package.json") as { version: string }).version;
}

function commit(): string | null {
  const git = (...args: string[]) =>
    execFileSync("git", ["--no-optional-locks", ...args], {
      cwd: packageFolder(),
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
  try {
    const dirty = git("status", "--porcelain", "--untracked-files=no", "--", "src") !== "";
    return `${git("rev-parse", "--short=12", "HEAD").trim()}${dirty ? "-dirty" : ""}`;
  } catch {
    return null;
  }
}

/** Appends a result as one line to `benchmarks/results/<name>.jsonl`. */
export async function appendResult(name: string, result: object): Promise<string> {
  const folder = join(packageFolder(), "benchmarks", "results");
  await mkdir(folder, { recursive: true });
  const path = join(folder, `${name}.jsonl`);
  await appendFile(path, `${JSON.stringify(result)}\n`);
  return path;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Prints an error as the command line does and sets the exit status. */
export function fail(error: unknown): void {
  if (error instanceof DyloraError) {
    console.error(`error[${error.code}]: ${error.message}${error.note ? `\n  note: ${error.note}` : ""}`);
    process.exitCode = error.exitCode;
  } else if (isWrongUsage(error)) {
    console.error(
      `error: ${error.message}\n  note: The comment at the head of the program's source lists its options.`,
    );
    process.exitCode = 2;
  } else {
    console.error(error);
    process.exitCode = 1;
  }
}

/** Of `parseArgs`. */
function isWrongUsage(error: unknown): error is Error {
  return error instanceof Error && "code" in error && String(error.code).startsWith("ERR_PARSE_ARGS");
}
