#!/usr/bin/env node
"use strict";

// This file is a CommonJS module (see package.json beside it): Node reads ES modules through libuv's thread pool, whose
// size is fixed by its first use, so in an ES module it would be too late to choose it. Images are decoded and files are
// read in that pool; its default of 4 threads would leave the cores of a larger machine idle.
const os = require("node:os");
const path = require("node:path");
const { existsSync } = require("node:fs");
const { pathToFileURL } = require("node:url");

process.env.UV_THREADPOOL_SIZE ??= String(Math.max(4, os.availableParallelism()));

const program = path.join(__dirname, "..", "dist", "cli", "main.js");

if (existsSync(program)) {
  import(pathToFileURL(program).href).then(({ main }) => main());
} else {
  process.stderr.write(
    `error[E_INTERNAL]: dylora is not built: ${program} is missing\n  note: Run \`npm run build\`.\n`,
  );
  process.exitCode = 1;
}
