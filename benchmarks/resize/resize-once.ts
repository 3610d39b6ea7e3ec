/** Resizes an adapter in a process of its own and sends what it took to the process that started it (`run.ts`). */

import { openAdapter } from "../../src/adapter/index.js";
import { planResize } from "../../src/surgery/resize/plan-resize.js";
import { resize } from "../../src/surgery/resize/resize.js";
import { residentMemory } from "../process-memory.js";

export interface ResizeJob {
  readonly parentPath: string;
  readonly rank: number;
  readonly outPath: string;
}

export interface ResizeFigures {
  /** Planning and writing, without the start of Node and the loading of modules. */
  readonly librarySeconds: number;
  readonly peakBytes: number;
}

const { parentPath, rank, outPath } = JSON.parse(process.argv[2]!) as ResizeJob;
const began = performance.now();
const parent = await openAdapter(parentPath);
await resize(await planResize(parent, [{ kind: "rank", rank }], { path: outPath }), { overwrite: true });
await parent.close();
const figures: ResizeFigures = {
  librarySeconds: (performance.now() - began) / 1000,
  peakBytes: residentMemory().peakBytes,
};
process.send?.(figures);
process.disconnect?.();
