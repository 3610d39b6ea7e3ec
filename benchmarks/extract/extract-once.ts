/** Extracts ranks in a process of its own and sends what it took to the process that started it (`run.ts`). */

import { openAdapter } from "../../src/adapter/index.js";
import { extract, planExtract } from "../../src/surgery/index.js";
import { residentMemory } from "../process-memory.js";

export interface ExtractJob {
  readonly parentPath: string;
  readonly ranks: readonly number[];
  readonly outDir: string;
  /** `--skip-hashes` */
  readonly skipsHashes: boolean;
}

export interface ExtractFigures {
  /** Planning and writing, without the start of Node and the loading of modules. */
  readonly librarySeconds: number;
  /** Of all threads. */
  readonly cpuSeconds: number;
  readonly peakBytes: number;
  readonly paths: readonly string[];
  readonly writtenBytes: number;
}

const { parentPath, ranks, outDir, skipsHashes } = JSON.parse(process.argv[2]!) as ExtractJob;
const began = performance.now();
const parent = await openAdapter(parentPath);
const { outputs } = await extract(planExtract(parent, { ranks }, { outDir, hashes: !skipsHashes }));
await parent.close();
const { user, system } = process.cpuUsage();
const figures: ExtractFigures = {
  librarySeconds: (performance.now() - began) / 1000,
  cpuSeconds: (user + system) / 1e6,
  peakBytes: residentMemory().peakBytes,
  paths: outputs.map(({ path }) => path),
  writtenBytes: outputs.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
};
process.send?.(figures);
process.disconnect?.();
