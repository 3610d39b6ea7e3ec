#!/usr/bin/env node
"use strict";

// This file is a CommonJS module (see package.json beside it): Node reads ES modules through libuv's thread pool, whose
// size is fixed by its first use, so in an ES module it would be too late to choose it. Images are decoded and files are
// read in that pool; its default of 4 threads would leave the cores of a larger machine idle.
const os = require("node:os");
const path = require("node:path");
const { existsSync } = require("node:fs");
const nodeModule = require("node:module");

process.env.UV_THREADPOOL_SIZE ??= String(Math.max(4, os.availableParallelism()));

// From Node 22.1 on, compiled modules are kept in the system's temporary folder; NODE_DISABLE_COMPILE_CACHE=1 turns it off.
nodeModule.enableCompileCache?.();

// The program is dist/cli bundled into few files (esbuild.config.ts): opening seventy small ones took longer than reading a
// header.
const program = path.join(__dirname, "..", "dist", "program", "main.js");

if (existsSync(program)) {
  require(program).main();
} else {
  process.stderr.write(
    `error[E_INTERNAL]: dylora is not built: ${program} is missing\n  note: Run \`npm run build\`.\n`,
  );
  process.exitCode = 1;
}
