import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/**
 * Every folder of src, from the bottom up, and whom it may import: nothing above it, and of what lies below only what is
 * named. All may import `errors` and `version`.
 */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  errors: [],
  version: [],
  format: [],
  io: [],
  random: [],
  linalg: [],
  options: ["io"],
  tensorboard: ["io"],

  // Files of weights. None of these knows a graph.
  safetensors: ["io"],
  models: ["io", "safetensors"],
  adapter: ["io", "safetensors", "models"],
  surgery: ["io", "random", "linalg", "safetensors", "models", "adapter"],

  // Computation. `graph` knows neither onnxruntime nor a model.
  graph: [],
  runtime: ["io", "graph", "safetensors"],
  networks: ["graph", "models"],

  // Training.
  dylora: ["options", "random"],
  data: ["io", "random", "safetensors"],
  denoiser: ["random", "data", "graph", "runtime", "models", "networks"],
  sampling: ["io", "random", "options", "data", "models", "adapter", "surgery", "runtime", "denoiser"],
  evaluation: [
    ...["io", "options", "random", "data", "models", "adapter", "surgery", "runtime", "denoiser"],
    "sampling",
  ],
  training: [
    ...["io", "random", "options", "tensorboard", "safetensors", "models", "adapter"],
    // The optimizer on a device is a graph.
    ...["graph", "runtime", "dylora", "data", "denoiser", "sampling", "evaluation"],
  ],

  // What users see.
  report: [...["format", "io", "options", "adapter", "surgery", "sampling", "evaluation", "training"]],
  index: [
    ...["safetensors", "models", "adapter", "surgery", "runtime", "sampling", "evaluation", "training"],
    "report",
  ],
  cli: [
    ...["format", "io", "options", "safetensors", "adapter", "surgery", "runtime", "evaluation", "training"],
    ...["sampling", "report"],
  ],
};

/** The files of src/models that build graphs; the others describe models and read checkpoints. */
const NETWORKS = /^models\/(clip|layers|unet|vae)\.ts$/;

/** Packages that only some layers may use. */
const PACKAGE_USERS: Readonly<Record<string, readonly string[]>> = {
  "onnxruntime-node": ["runtime"],
  "@observablehq/plot": ["report"],
  "@mixmark-io/domino": ["report"],
  sharp: ["data", "runtime", "sampling", "report"],
  commander: ["cli"],
  "cli-table3": ["cli"],
};

const MAX_LINES = 500;
/** Tables with one entry after another, which no reader takes in as a whole. */
const LONG_TABLES: readonly string[] = ["src/training/options.ts"];

/** Holds the program of a child process, whose output is its result. */
const CHILD_PROCESSES: readonly string[] = ["src/runtime/probe.ts"];

interface Source {
  /** Path below the repository, with "/". */
  path: string;
  text: string;
}

function sources(folder: string): Source[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => ({
      path: `${folder}/${name.split(sep).join("/")}`,
      text: readFileSync(join(ROOT, folder, name), "utf8"),
    }));
}

const LIBRARY = sources("src").filter(({ path }) => !path.endsWith(".test.ts"));

function layerOf(path: string): string {
  const below = path.slice("src/".length);
  if (NETWORKS.test(below)) return "networks";
  return below.split("/")[0]!.replace(/\.ts$/, "");
}

/** What a file imports or exports from elsewhere, types included. */
function importsOf({ text }: Source): string[] {
  const statements = [
    /^(?:import|export)\s[^;]*?\bfrom\s+"([^"]+)"/gm,
    /^import\s+"([^"]+)"/gm,
    /\bimport\(\s*"([^"]+)"/g,
  ];
  return statements.flatMap((statement) => [...text.matchAll(statement)].map((match) => match[1]!));
}

/** The file of src that a relative import means. */
function resolveImport(from: string, specifier: string): string {
  return normalize(join(dirname(from), specifier))
    .split(sep)
    .join("/")
    .replace(/\.js$/, ".ts");
}

describe("imports go down only", () => {
  test("every layer is in the table, below the layers that may import it", () => {
    const layers = Object.keys(MAY_IMPORT);
    expect([...new Set(LIBRARY.map(({ path }) => layerOf(path)))].sort()).toEqual([...layers].sort());
    for (const [layer, below] of Object.entries(MAY_IMPORT)) {
      for (const name of below)
        expect(layers.indexOf(name), `${name} in ${layer}`).toBeLessThan(layers.indexOf(layer));
    }
  });

  test("no file imports what its layer may not", () => {
    const violations = LIBRARY.flatMap((source) => {
      const layer = layerOf(source.path);
      const allowed = new Set([layer, "errors", "version", ...(MAY_IMPORT[layer] ?? [])]);
      return importsOf(source)
        .filter((specifier) => specifier.startsWith("."))
        .map((specifier) => resolveImport(source.path, specifier))
        .filter((path) => !allowed.has(layerOf(path)))
        .map((path) => `${source.path} imports ${path}`);
    });
    expect(violations).toEqual([]);
  });

  test("the table allows nothing that nobody does", () => {
    const used = new Set(
      LIBRARY.flatMap((source) =>
        importsOf(source)
          .filter((specifier) => specifier.startsWith("."))
          .map((specifier) => `${layerOf(source.path)} -> ${layerOf(resolveImport(source.path, specifier))}`),
      ),
    );
    const allowed = Object.entries(MAY_IMPORT).flatMap(([layer, below]) =>
      below.map((name) => `${layer} -> ${name}`),
    );
    expect(allowed.filter((edge) => !used.has(edge))).toEqual([]);
  });

  test("relative imports name the compiled file and exist", () => {
    const known = new Set(LIBRARY.map(({ path }) => path));
    const broken = LIBRARY.flatMap((source) =>
      importsOf(source)
        .filter((specifier) => specifier.startsWith("."))
        .filter(
          (specifier) => !specifier.endsWith(".js") || !known.has(resolveImport(source.path, specifier)),
        )
        .map((specifier) => `${source.path}: ${specifier}`),
    );
    expect(broken).toEqual([]);
  });

  test("packages are used by the layers they are for", () => {
    const violations = LIBRARY.flatMap((source) =>
      importsOf(source)
        .filter((specifier) => PACKAGE_USERS[specifier]?.includes(layerOf(source.path)) === false)
        .map((specifier) => `${source.path} imports ${specifier}`),
    );
    expect(violations).toEqual([]);
  });

  test("no file of the library imports a test or its helpers", () => {
    const violations = LIBRARY.filter((source) =>
      importsOf(source).some((specifier) => /\.test\.js$|\/test\//.test(specifier)),
    );
    expect(violations.map(({ path }) => path)).toEqual([]);
  });
});

describe("the library", () => {
  /** The code without comments, in which these words may stand. */
  const codeOf = ({ text }: Source) => text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "");

  test("never prints and never ends the process", () => {
    const violations = LIBRARY.filter(
      ({ path }) => layerOf(path) !== "cli" && !CHILD_PROCESSES.includes(path),
    )
      .filter((source) =>
        /\bconsole\s*\.|\bprocess\s*\.\s*(exit|abort|stdout|stderr|exitCode)\b/.test(codeOf(source)),
      )
      .map(({ path }) => path);
    expect(violations).toEqual([]);
  });

  test("has no default exports", () => {
    expect(
      LIBRARY.filter((source) => /^export default\b/m.test(source.text)).map(({ path }) => path),
    ).toEqual([]);
  });
});

test(`no file of the library is longer than ${MAX_LINES} lines`, () => {
  const long = LIBRARY.filter(({ text }) => text.split("\n").length - 1 > MAX_LINES).map(({ path }) => path);
  expect(long).toEqual(LONG_TABLES);
});
