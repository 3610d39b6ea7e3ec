/** What a command loads decides how soon it starts. Times depend on the machine; this does not. */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import { writeRandomAdapter } from "../helpers/random-adapter.js";
import { PROGRAM } from "../helpers/run-program.js";
import { tempFolder } from "../helpers/temp-folder.js";

const REPORT_LOADED = fileURLToPath(new URL("../helpers/report-loaded.cjs", import.meta.url));

let folder: string;
let adapter: string;
let empty: string;
beforeAll(async () => {
  folder = await tempFolder();
  adapter = path.join(folder, "cat.safetensors");
  empty = path.join(folder, "empty.cjs");
  await writeRandomAdapter(adapter, { hashes: true, metadata: {} });
  writeFileSync(empty, "");
});

/** Node's modules beyond those of an empty program, and the files of the program and of packages. */
function loadedBy(args: readonly string[]): { builtIn: string[]; files: string[] } {
  const nothing = run([empty]);
  const { builtIn, files } = run([PROGRAM, ...args]);
  return {
    builtIn: builtIn.filter((name) => !nothing.builtIn.includes(name)),
    files: files.filter((file) => file !== PROGRAM),
  };
}

function run(args: readonly string[]): { builtIn: string[]; files: string[] } {
  const report = path.join(folder, "loaded.json");
  execFileSync(process.execPath, ["--require", REPORT_LOADED, ...args], {
    env: { ...process.env, DYLORA_TEST_LOADED: report },
    stdio: ["ignore", "ignore", "inherit"],
  });
  return JSON.parse(readFileSync(report, "utf8"));
}

/** Each takes milliseconds to load, and none does anything for a header. */
const HEAVY = [
  "child_process",
  "crypto",
  "fs/promises",
  "perf_hooks",
  "worker_threads",
  "zlib",
  // The loader of ES modules at work.
  "internal/modules/esm/translators",
];

describe.each([
  ["--version", () => ["--version"], 2],
  ["--help", () => ["--help"], 2],
  ["inspect, the header alone", () => ["inspect", adapter, "--no-norms", "--json"], 4],
])("%s", (_, args, mostFiles) => {
  test(`opens at most ${mostFiles} files of the program and no package`, () => {
    const { files } = loadedBy(args());
    expect(files.filter((file) => file.includes("node_modules"))).toEqual([]);
    expect(files.length).toBeLessThanOrEqual(mostFiles);
  });

  test("loads none of Node's modules that it has no use for", () => {
    const { builtIn } = loadedBy(args());
    expect(builtIn.filter((name) => HEAVY.includes(name))).toEqual([]);
  });
});
